"""Modules that run more than once, or that take and give other arguments than their counterparts."""

from __future__ import annotations

import jax

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
