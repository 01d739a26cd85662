"""The epoch plan, the initial weights and the standardisation table."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe import initial_weights
from recipe.normalisation import standardisation_table
from recipe.plan import EpochPlan, make_plan


def plan(**changes: Any) -> EpochPlan:
    arguments: dict[str, Any] = {
        "seed": 0, "epoch": 0, "examples": 103, "batch_size": 10, "image_size": 32, "pad": 4, "flip": True,
    }  # fmt: skip
    return make_plan(**{**arguments, **changes})


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(1, 300), st.data())
def test_an_epoch_is_full_batches_with_no_example_twice(seed: int, epoch: int, examples: int, data: Any):
    batch_size = data.draw(st.integers(1, examples))
    index = plan(seed=seed, epoch=epoch, examples=examples, batch_size=batch_size).index
    assert index.shape == (examples // batch_size, batch_size)
    assert len(np.unique(index)) == index.size
    assert index.min() >= 0
    assert index.max() < examples


def test_the_remainder_differs_and_every_example_has_its_turn():
    left_out = [set(range(103)) - set(plan(epoch=epoch).index.ravel().tolist()) for epoch in range(20)]
    assert {len(rest) for rest in left_out} == {3}
    assert len(set(map(frozenset, left_out))) == 20
    assert set.intersection(*left_out) == set()


def test_a_plan_is_a_function_of_seed_and_epoch():
    same, other_epoch, other_seed = plan(), plan(epoch=1), plan(seed=1)
    for name, rows in dataclasses.asdict(plan()).items():
        assert rows.dtype == np.int32
        assert np.array_equal(rows, getattr(same, name))
        assert not np.array_equal(rows, getattr(other_epoch, name))
        assert not np.array_equal(rows, getattr(other_seed, name))


def test_switching_one_decision_off_leaves_the_others():
    for changes, changed in (({"flip": False}, {"flip"}), ({"pad": 0}, {"crop_y", "crop_x"})):
        different = {
            name
            for name, rows in dataclasses.asdict(plan(**changes)).items()
            if not np.array_equal(rows, getattr(plan(), name))
        }
        assert different == changed
    assert not plan(flip=False).flip.any()
    assert not plan(pad=0).crop_y.any()


def test_decisions_are_uniform():
    big = plan(examples=90_000, batch_size=1000)
    for rows, values in (
        (big.crop_y, 9),
        (big.crop_x, 9),
        (big.flip, 2),
        (big.cutout_y, 32),
        (big.cutout_x, 32),
    ):
        counts = np.bincount(rows.ravel(), minlength=values)
        assert len(counts) == values
        expected = 90_000 / values
        assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)
    assert abs(np.corrcoef(big.crop_y.ravel(), big.crop_x.ravel())[0, 1]) < 0.02


def test_initial_weights_are_drawn_by_name():
    shapes: dict[str, tuple[int, ...]] = {
        "conv.weight": (64, 32, 3, 3), "bn.weight": (64,), "bn.bias": (64,),
        "linear.weight": (200, 100), "linear.bias": (200,),
    }  # fmt: skip
    drawn = initial_weights.draw(7, shapes)
    assert (drawn["bn.weight"] == 1).all()
    assert (drawn["bn.bias"] == 0).all()
    for name, fan_in in (("conv.weight", 288), ("linear.weight", 100), ("linear.bias", 100)):
        bound = 1 / math.sqrt(fan_in)
        values = drawn[name]
        assert values.shape == shapes[name]
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.97 * bound
        assert abs(values.std() / (bound / math.sqrt(3)) - 1) < 0.1
    reordered = initial_weights.draw(7, dict(reversed(shapes.items())))
    assert all(np.array_equal(drawn[name], reordered[name]) for name in shapes)
    assert not np.array_equal(drawn["conv.weight"], initial_weights.draw(8, shapes)["conv.weight"])


@pytest.mark.parametrize("channel", range(3))
def test_the_table_is_the_formula(channel: int):
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    table = standardisation_table(mean, std)
    assert table.shape == (256, 3)
    for pixel in range(256):
        assert table[pixel, channel] == (pixel / 255 - mean[channel]) / std[channel]
