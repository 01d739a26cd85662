"""What other people's modules do, and what has to come out right all the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen
from torch import nn

import parity
from parity.comparison.report import CompareReport
from parity.comparison.text import render

F64: dict[str, Any] = {"precisions": ("f64",)}
X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def compare(
    torch_model: nn.Module, module: linen.Module, x: np.ndarray = X, **settings: Any
) -> CompareReport:
    """A PyTorch network beside a linen module, in float64."""
    variables = module.init(jax.random.key(0), x)
    torch.manual_seed(0)
    return parity.compare(torch_model, (module, variables), [x], **{**F64, **settings})


class PutAnew(nn.Module):
    """A norm whose running mean is another tensor after every step in training."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 8) → (batch, 4)."""
        y = self.dense(x)
        if not self.training:
            return y - self.mean
        mean = y.mean(0)
        self.mean = 0.9 * self.mean + 0.1 * mean.detach()
        return y - mean


class FlaxPutAnew(linen.Module):
    """The same in linen."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(batch, 8) → (batch, 4)."""
        mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(4))
        y = linen.Dense(4, name="dense")(x)
        if not train:
            return y - mean.value
        mean.value = 0.9 * mean.value + 0.1 * y.mean(0)
        return y - y.mean(0)


def test_buffers_that_are_replaced_by_other_tensors():
    report = compare(PutAnew(), FlaxPutAnew())
    assert report.passed, render(report)
    assert any(place.what == "statistic" for place in report.places)


class Positions(nn.Module):
    """A linear layer, and a table that is added behind it."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 4)
        self.register_buffer("table", torch.tensor(table, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 8) → (batch, 4)."""
        return self.dense(x) + self.table


class FlaxPositions(linen.Module):
    """The same in linen."""

    table: tuple[float, ...]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, 8) → (batch, 4)."""
        return linen.Dense(4, name="dense")(x) + jnp.array(self.table)


def test_a_table_in_a_buffer_is_compared_by_what_it_does():
    table = (0.0, 0.25, 0.5, 1.0)
    report = compare(Positions(np.array(table)), FlaxPositions(table))
    assert report.passed, render(report)
    assert any(words.startswith("table: a buffer of PyTorch") for words in report.unseen)
    wrong = compare(Positions(np.array(table)), FlaxPositions((0.0, 0.25, 0.5, 0.75)))
    assert [(d.first.what, d.first.torch) for d in wrong.differences] == [("between", "output")]


def test_a_buffer_of_zeros_may_hold_something_else_in_a_checkpoint():
    report = compare(Positions(np.zeros(4)), FlaxPositions((0.0, 0.0, 0.0, 0.0)))
    assert [(d.family, d.first.torch) for d in report.differences] == [("missing parameter", "table")]


class Scores(nn.Module):
    """Scores of tokens, of which a mask hides some by the dtype's least number."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, 8), (batch, tokens) → (batch, tokens, tokens)."""
        scores = self.q(x) @ self.k(x).mT
        return scores + torch.where(mask[:, None], 0, torch.finfo(scores.dtype).min)


class Masked(nn.Module):
    """Attention whose scores are a module's result."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.head = Scores(), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, 8), (batch, tokens) → (batch, tokens, 3)."""
        return self.head(self.scores(x, mask).softmax(-1) @ x)


class FlaxScores(linen.Module):
    """The same in linen; the least number is float32's."""

    scale: float = 1.0

    @linen.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """(batch, tokens, 8), (batch, tokens) → (batch, tokens, tokens)."""
        scores = linen.Dense(4, name="q")(x) @ linen.Dense(4, name="k")(x).mT
        return self.scale * scores + jnp.where(mask[:, None], 0, jnp.finfo(jnp.float32).min)


class FlaxMasked(linen.Module):
    """The same in linen."""

    scale: float = 1.0

    @linen.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """(batch, tokens, 8), (batch, tokens) → (batch, tokens, 3)."""
        scores = FlaxScores(self.scale, name="scores")(x, mask)
        return linen.Dense(3, name="head")(jax.nn.softmax(scores) @ x)


def masked(scale: float) -> CompareReport:
    """Both with a token that is hidden and a sequence that is hidden as a whole."""
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
    mask = np.arange(5) < np.array([[5], [4], [0]])
    module = FlaxMasked(scale)
    flax_model = module, module.init(jax.random.key(0), x, mask)
    torch.manual_seed(0)
    return parity.compare(Masked(), flax_model, [x, mask])


def test_the_least_numbers_of_dtypes_are_one_as_a_mask():
    report = masked(1.0)
    assert not [d for d in report.differences if d.first.torch == "scores"], render(report)


def test_an_error_beside_a_mask_shows():
    report = masked(1 + 1e-5)
    assert report.differences[0].first.torch == "scores"
    assert report.differences[0].first.size < 100


class Asking(nn.Module):
    """Asks for gradients of what it computes from its input, as code with frozen parts does."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 8) → (batch, 4)."""
        x = 2 * x
        if self.training:
            x.requires_grad = True
        return self.dense(x)


class FlaxAsking(linen.Module):
    """The same in linen."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, 8) → (batch, 4)."""
        return linen.Dense(4, name="dense")(2 * x)


def test_gradients_that_are_asked_for_where_they_are_needed_already():
    report = compare(Asking(), FlaxAsking())
    assert report.passed, render(report)
    assert any(place.what == "input gradient" for place in report.places)


class Turned(nn.Module):
    """Turns features by angles from a table that PyTorch makes once, in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
        self.register_buffer("rates", 1.0 / 10000 ** (torch.arange(4) / 4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 8) → (batch, 3)."""
        angles = torch.arange(len(x), dtype=x.dtype)[:, None] * self.rates
        a, b = self.dense(x).chunk(2, -1)
        cos, sin = angles.cos(), angles.sin()
        return self.head(torch.cat([a * cos - b * sin, a * sin + b * cos], -1))


class FlaxTurned(linen.Module):
    """The same in linen; the table is made as it runs."""

    base: float = 10000.0

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, 8) → (batch, 3)."""
        angles = jnp.arange(len(x))[:, None] / self.base ** (jnp.arange(4) / 4)
        a, b = jnp.split(linen.Dense(8, name="dense")(x), 2, -1)
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        return linen.Dense(3, name="head")(jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1))


def test_a_table_that_pytorch_has_in_float32_alone_is_no_difference():
    report = compare(Turned(), FlaxTurned())
    assert report.passed, render(report)
    assert not report.less_exact


def test_a_table_that_is_another_one_is_a_difference():
    (difference,) = compare(Turned(), FlaxTurned(10001.0)).differences
    assert difference.first.torch == "head"
    assert difference.first.verdict == "different"
