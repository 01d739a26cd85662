"""What a report makes of places that differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from torch import nn

from parity.comparison import grouping
from parity.comparison.bounds import Bounds
from parity.comparison.findings import BACKWARDS, BETWEEN, GRADIENT, LAYER, Place, place
from parity.comparison.inputs import Arguments
from parity.comparison.recording import Pin, Slot
from parity.comparison.reference import Own
from parity.comparison.sides.torch_side import TorchSide
from parity.result import Check


def at(error: float, precision: str) -> Place:
    """A layer whose values are off by something, where float32's budget is 8e-6."""
    theirs = np.ones(3)
    return place(LAYER, "a", "b", theirs=theirs, ours=theirs + error, own=(1e-6, 0.0), precision=precision)


def check(one: Place) -> Check:
    """A check of one place."""
    return Check(2, "eval: every layer and piece on its own", one.precision, "largest element", (one,))


@pytest.mark.parametrize(
    ("what", "error", "cleared", "verdict"),
    [
        (GRADIENT, 0.04, True, "less exact"),  # bfloat16's sum of a bias's gradient
        (GRADIENT, 0.04, False, "different"),
        (GRADIENT, 0.4, True, "different"),
        (LAYER, 0.04, True, "different"),
    ],
)
def test_bfloat16_may_add_up_gradients_term_by_term(what: str, error: float, cleared: bool, verdict: str):
    theirs = np.ones(3)
    own = 1e-3 * np.sqrt(3), 0.0  # in norm
    one = place(what, "a", "b", theirs=theirs, ours=theirs * (1 + error), own=own, precision="bf16")
    assert dataclasses.replace(one, cleared=cleared).verdict == verdict


@pytest.mark.parametrize("size", [0.0, 1e-9, 1.0])
@pytest.mark.parametrize(("error", "equal"), [(7e-3, True), (9e-3, False)])
def test_in_bfloat16_a_part_that_is_zero_but_for_rounding_has_the_wholes_budget(
    size: float, error: float, equal: bool
):
    theirs = np.array([size, 0.0])
    one = place(
        GRADIENT,
        "a",
        "b",
        theirs=theirs,
        ours=theirs + np.array([0, error]),
        own=(1e-3, 0.0),
        precision="bf16",
    )
    assert (one.ratio <= 1) is equal
    assert one.ratio == pytest.approx(error / 8e-3)
    assert one.error == pytest.approx(error / (size or 1.0))  # of the norm, where there is one


def test_own_errors_of_the_parts_of_an_array():
    errors = {("param", "a"): 3.0, ("param", "b"): 4.0}
    keys = list(errors)
    assert Own(errors, {}, norms=True).of(*keys) == (5.0, 0.0)  # norms of parts
    assert Own(errors, {}).of(*keys) == (4.0, 0.0)  # largest elements


@pytest.mark.parametrize(
    ("f64", "f32", "family"),
    [
        (1e-3, 1e-7, "this tool"),
        (1e-3, 1e-3, "unknown"),
        (1e-5, 1e-7, "unknown"),  # both runs err
    ],
)
def test_a_difference_that_float32_does_not_have_is_the_tools(f64: float, f32: float, family: str):
    found = grouping.differences([check(at(f64, "f64")), check(at(f32, "f32"))])
    assert found[0].family == family


WHERE = {"torch": "mlp.down", "flax": "mlp.down", "kind": "Linear", "size": 1.0, "order": 9}
VALUE = Place("mlp.down", 1e-4, 1e-15, BETWEEN, **WHERE, precision="f64")
EARLIER = dataclasses.replace(
    VALUE, what=BETWEEN + BACKWARDS, torch="attention.k", flax="attention.k", precision="f32",
    error=1e-3, allowed=1e-6, order=3,
)  # fmt: skip


def first_places(*places: Place) -> list[str]:
    """Of the differences that a report lists."""
    found = grouping.differences([Check(2, "eval: pinned", "f64", "", places)])
    return [difference.first.torch for difference in found]


def test_a_gradient_before_a_value_that_differs_is_a_consequence():
    assert first_places(VALUE, EARLIER) == ["mlp.down"]


def test_a_gradient_that_float64_clears_is_no_consequence_of_what_float64_finds():
    """A narrow cast in the attention shows beside a wrong activation further on."""
    cleared = dataclasses.replace(EARLIER, cleared=True)
    assert first_places(VALUE, cleared) == ["attention.k", "mlp.down"]
    low = dataclasses.replace(VALUE, precision="f32", error=1.0, allowed=1e-6)
    assert first_places(low, cleared) == ["attention.k", "mlp.down"]
    assert first_places(dataclasses.replace(low, cleared=True), cleared) == ["mlp.down"]


def test_bounds_are_of_what_a_pin_passes_on():
    side = TorchSide(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), None, None, None, 0)
    value, out = Slot("0", 0, "in", 0), Slot("0", 0, "out", 0)
    pins = {value: Pin(np.full((1, 2), 3.0), None), out: Pin(np.ones((1, 2)), np.full((1, 2), 5.0))}
    tensors = {name: np.ones_like(array) for name, array in side.tensors().items()}
    given = Arguments.of([np.zeros((1, 2))])
    run = side.run(tensors, given, "f64", False, pins=pins, cotangents=[np.zeros((1, 1))])
    bounds = Bounds(side, run, pins, False, "f64")
    assert not run.slots[value].value.any()  # what arrives is nothing
    assert not run.slots[out].grad.any()
    unit = 2.0**-53
    np.testing.assert_allclose(bounds(("value", out)), 2 * 3 * unit * 7.0, rtol=1e-9)  # γ₃·(3 + 3 + 1)
    np.testing.assert_allclose(bounds(("grad", value)), 2 * 2 * unit * 10.0, rtol=1e-9)  # γ₂·(5 + 5)
    np.testing.assert_allclose(bounds(("param", "0.bias")), 2 * 1 * unit * 5.0, rtol=1e-9)
