"""What becomes of PyTorch's tensors in Flax: proposals where shapes alone don't decide, and sums."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import parity
from parity.comparison.mapping.propose import propose
from parity.comparison.mapping.units import Unit
from parity.comparison.report import CompareReport
from parity.comparison.text import render
from recipe.system.errors import UserError


def test_numbers_in_names_do_not_exchange_layers_of_one_shape():
    """The last convolution of a bottleneck and its shortcut have one shape and run in one order."""
    kernel = {"kernel": (1, 1, 8, 32)}
    theirs = [
        Unit(f"layer1.0.{name}", "Conv2d", {"weight": (32, 8, 1, 1)}) for name in ("conv3", "downsample.0")
    ]
    ours = [Unit(f"BottleneckResNetBlock_0.{name}", "Conv", kernel) for name in ("Conv_2", "conv_proj")]
    sources = propose(theirs, ours)
    assert {path: source.names for path, source in sources.items()} == {
        "BottleneckResNetBlock_0.Conv_2.kernel": ("layer1.0.conv3.weight",),
        "BottleneckResNetBlock_0.conv_proj.kernel": ("layer1.0.downsample.0.weight",),
    }


class Reader(nn.Module):
    """An LSTM, of whose last state a linear layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, steps, 5) → (batch, 2)."""
        return self.head(self.lstm(x)[0][:, -1])


class FlaxReader(nnx.Module):
    """The same with one bias where PyTorch has two."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.x = nnx.Linear(5, 24, rngs=rngs)
        self.h = nnx.Linear(6, 24, use_bias=False, rngs=rngs)
        self.head = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, steps, 5) → (batch, 2)."""
        h = c = jnp.zeros((len(x), 6), x.dtype)
        for step in range(x.shape[1]):
            i, f, g, o = jnp.split(self.x(x[:, step]) + self.h(h), 4, -1)
            c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
            h = nnx.sigmoid(o) * jnp.tanh(c)
        return self.head(h)


def converted(tensors: Any, factor: float = 1.0) -> dict[str, Any]:
    """Flax's tensors from PyTorch's."""
    return {
        "x.kernel": tensors["lstm.weight_ih_l0"].T, "h.kernel": tensors["lstm.weight_hh_l0"].T,
        "x.bias": tensors["lstm.bias_ih_l0"] + factor * tensors["lstm.bias_hh_l0"],
        "head.kernel": tensors["head.weight"].T, "head.bias": tensors["head.bias"],
    }  # fmt: skip


def read(**settings: Any) -> CompareReport:
    """The readers compared."""
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    torch.manual_seed(0)
    return parity.compare(
        Reader(), FlaxReader(), [x], precisions=("f64",), **{"weights": converted, **settings}
    )


def test_a_sum_of_two_biases_gets_the_gradient_of_each():
    report = read()
    assert report.passed, render(report)
    compared = {place.torch for place in report.places if place.what == "gradient"}
    assert {"lstm.bias_ih_l0", "lstm.bias_hh_l0"} <= compared


def test_a_sum_of_two_biases_moves_twice_as_far():
    report = read(optimizers=(lambda parameters: torch.optim.SGD(parameters, lr=0.1), optax.sgd(0.1)))
    assert [(d.family, [p.flax for p in d.places]) for d in report.differences] == [("mapping", ["x.bias"])]


def test_what_is_computed_otherwise_has_no_gradients():
    def doubled(tensors: Any) -> dict[str, Any]:
        return converted(tensors, 2.0)

    with pytest.raises(UserError, match=r"the converter computes x\.bias"):
        read(weights=doubled)
