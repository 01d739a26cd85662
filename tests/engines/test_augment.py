"""Crops, flips, cutout and standardisation against a slow, obvious implementation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import flax_resnet.augment
import torch_ref.augment
from recipe.normalisation import standardisation_table
from recipe.plan import EpochPlan, make_plan

SIZE = 8


def slow_image(image: np.ndarray, pad: int, mode: str, top: int, left: int, flip: int) -> np.ndarray:
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), {"zero": "constant", "reflect": "reflect"}[mode])
    crop = padded[top : top + SIZE, left : left + SIZE]
    return crop[:, ::-1] if flip else crop


def slow_cutout(image: np.ndarray, side: int, y: int, x: int) -> np.ndarray:
    image = image.copy()
    for row in range(y - side // 2, y - side // 2 + side):
        for column in range(x - side // 2, x - side // 2 + side):
            if 0 <= row < SIZE and 0 <= column < SIZE:
                image[row, column] = 0
    return image


def as_jax(plan: EpochPlan, step: int) -> dict[str, Any]:
    return {name: jnp.asarray(rows[step]) for name, rows in dataclasses.asdict(plan).items()}


def as_torch(plan: EpochPlan, step: int) -> dict[str, Any]:
    return {name: torch.from_numpy(rows[step]).long() for name, rows in dataclasses.asdict(plan).items()}


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(
    ("pad", "flip", "cutout"), [(0, False, 0), (2, True, 0), (4, True, 3), (7, False, 4)]
)
def test_batches_are_what_a_slow_implementation_gives(mode: str, pad: int, flip: bool, cutout: int):
    rng = np.random.default_rng(pad)
    images = rng.integers(0, 256, (40, SIZE, SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, 40)
    table = standardisation_table((0.3, 0.4, 0.5), (0.1, 0.2, 0.3)).astype(np.float32)
    plan = make_plan(3, 0, examples=40, batch_size=16, image_size=SIZE, pad=pad, flip=flip)
    assert bool(plan.flip.any()) == flip
    assert plan.crop_y.min() == 0
    assert plan.crop_y.max() == 2 * pad
    data = {"image": images, "label": labels, "table": table}
    settings = type("Augment", (), {"pad": pad, "pad_mode": mode, "cutout": cutout})
    for step in range(plan.steps):
        ours = flax_resnet.augment.make_batch(
            {name: jnp.asarray(value) for name, value in data.items()}, as_jax(plan, step), settings
        )
        theirs = torch_ref.augment.make_batch(
            {name: torch.from_numpy(value) for name, value in data.items()}, as_torch(plan, step), settings
        )
        for k, index in enumerate(plan.index[step]):
            pixels = slow_image(
                images[index], pad, mode, plan.crop_y[step, k], plan.crop_x[step, k], plan.flip[step, k]
            )
            expected = np.empty(pixels.shape, np.float32)
            for c in range(3):
                expected[..., c] = table[pixels[..., c], c]
            if cutout:
                expected = slow_cutout(expected, cutout, plan.cutout_y[step, k], plan.cutout_x[step, k])
            np.testing.assert_array_equal(np.asarray(ours["image"][k]), expected)
            np.testing.assert_array_equal(theirs["image"][k].numpy(), expected)
            assert int(ours["label"][k]) == int(theirs["label"][k]) == labels[index]
