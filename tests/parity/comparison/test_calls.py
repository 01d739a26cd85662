"""Modules that run more than once, or that take and give other arguments than their counterparts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import torch
from flax import linen
from torch import nn

import parity
from parity.comparison.report import CompareReport
from parity.comparison.text import render
from tests.parity.comparison import small


def compare(flax_model: small.FlaxMLP) -> CompareReport:
    """The small pair with another Flax network."""
    return parity.compare(small.torch_mlp(), flax_model, small.inputs(), precisions=("f64",))


def test_a_call_whose_result_is_not_used_is_left_out():
    class Twice(small.FlaxMLP):
        def __call__(self, x: jax.Array) -> jax.Array:
            hidden = self.up(self.scaling(x))
            self.down(self.activation(hidden))
            return self.down(self.activation(hidden))

    report = compare(Twice())
    assert report.passed, render(report)
    assert any("1 call of down in Flax: nothing depends on the result" in words for words in report.unseen)


class Mixed(nn.Module):
    """Mixes tokens: softmax(q·k)·v without a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, 8) → the same."""
        return (self.q(x) @ self.k(x).mT).softmax(-1) @ self.v(x)


class Mixing(nn.Module):
    """A norm, a mixer and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mixed, self.head = nn.LayerNorm(8, eps=1e-6), Mixed(), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, 8) → (batch, tokens, 3)."""
        return self.head(self.mixed(self.norm(x)))


class FlaxMixed(linen.Module):
    """The same with two arguments."""

    @linen.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """(batch, tokens, 8) → the same."""
        q, k, v = linen.Dense(8, name="q")(x), linen.Dense(8, name="k")(y), linen.Dense(8, name="v")(y)
        return jax.nn.softmax(q @ k.mT) @ v


class FlaxMixing(linen.Module):
    """The same network; the mixer gets its argument twice, the second time times `factor`."""

    factor: float = 1.0
    behind: Any = staticmethod(lambda x: x)

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, tokens, 8) → (batch, tokens, 3)."""
        x = linen.LayerNorm(name="norm")(x)
        return linen.Dense(3, name="head")(self.behind(FlaxMixed(name="mixed")(x, self.factor * x)))


def mix(**settings: Any) -> CompareReport:
    """The mixers compared."""
    x = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    module = FlaxMixing(**settings)
    torch.manual_seed(0)
    flax_model = module, module.init(jax.random.key(0), x)
    return parity.compare(Mixing(), flax_model, [x], precisions=("f64",))


def test_an_argument_that_flax_is_given_twice():
    report = mix()
    assert report.passed, render(report)
    assert any(place.torch == "mixed" and place.backwards for place in report.places)


def test_mistakes_around_such_a_call_are_found():
    scaled = mix(factor=1.5).differences
    assert {place.torch for d in scaled for place in d.places} == {"mixed.k", "mixed.v"}
    stopped = mix(behind=lambda x: jax.lax.stop_gradient(x)).differences
    assert [(d.family, d.first.torch) for d in stopped] == [("gradient", "mixed")]
