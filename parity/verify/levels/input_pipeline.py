"""Level 6: from the same plan both engines make the same batch, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import flax_resnet.augment
import flax_resnet.predict
import torch_ref.augment
import torch_ref.predict
from parity.budgets.reference import C, gamma
from parity.cause import Cause
from parity.engines import to_float
from parity.result import Check, Finding, Findings, elementwise
from parity.verify.case import Case
from parity.verify.diagnose.pipeline import of_bytes, of_floats, of_resizing, resized
from recipe.plan import EpochPlan, make_plan
from recipe.resize import bilinear
from recipe.state_dict import Arrays
from recipe.training.description import Augment

EXAMPLES, BATCH = 70, 32
AUGMENTS = [
    Augment(pad=4, pad_mode="zero", flip=True, cutout=0),
    Augment(pad=4, pad_mode="reflect", flip=True, cutout=0),
    Augment(pad=2, pad_mode="zero", flip=False, cutout=12),
    Augment(pad=0, pad_mode="zero", flip=True, cutout=7),
]

# Compiled once for every shape and option, not once for every batch.
CROP_AND_FLIP = jax.jit(flax_resnet.augment.crop_and_flip, static_argnums=(2, 3))
MAKE_BATCH = jax.jit(flax_resnet.augment.make_batch, static_argnums=2)
STANDARDISE = jax.jit(flax_resnet.augment.standardise)
RESIZE = jax.jit(flax_resnet.augment.resize)


def check(case: Case) -> Iterator[Check]:
    """Bytes after crop and flip, floats after standardisation, labels: all equal. Then resized images."""
    rng = np.random.default_rng(case.seed)
    size = 32
    images = rng.integers(0, 256, (EXAMPLES, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, case.description.num_classes, EXAMPLES)
    for augment in AUGMENTS:
        plan = make_plan(case.seed, 1, examples=EXAMPLES, batch_size=BATCH, image_size=size,
                         pad=augment.pad, flip=augment.flip)  # fmt: skip
        yield _batches(case, images, labels, plan, augment)
    yield _standardised_pixels(case)
    for precision in ("f64", "f32"):
        yield _resized(case, precision)
    yield _resized_batches(case, images, labels)


def _batches(case: Case, images: np.ndarray, labels: np.ndarray, plan: EpochPlan, augment: Augment) -> Check:
    found = Findings()
    for step in range(plan.steps):
        row = _row(plan, step)
        ours = np.asarray(CROP_AND_FLIP(jnp.asarray(images), _as_jax(row), augment.pad, augment.pad_mode))
        theirs = torch_ref.augment.crop_and_flip(
            torch.from_numpy(images), _as_torch(row), augment.pad, augment.pad_mode
        ).numpy()
        found.add(
            _differences(f"step {step}: bytes after crop and flip", ours, theirs),
            why=functools.partial(of_bytes, images, row, augment, ours, theirs),
        )
        for precision in ("f32", "f64"):
            our, their = _made(case, images, labels, row, augment, precision)
            for name, what in (("image", f"{precision} floats"), ("label", "labels")):
                found.add(
                    _differences(f"step {step}: {what}", our[name], their[name]),
                    why=functools.partial(of_floats, name, our[name], their[name]),
                )
    words = ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(augment).items())
    return found.check(6, f"batches from one plan: {words}", "exact", "elements that differ")


def _made(
    case: Case,
    images: np.ndarray,
    labels: np.ndarray,
    row: Arrays,
    augment: Augment,
    precision: str,
    size: int = 0,
) -> tuple[Arrays, Arrays]:
    """The batch of a plan's row by both engines, resized if a size is given."""
    ours = {
        "image": jnp.asarray(images), "label": jnp.asarray(labels),
        "table": flax_resnet.predict.device_table(case.description, precision),
    }  # fmt: skip
    theirs = {
        "image": torch.from_numpy(images), "label": torch.from_numpy(labels),
        "table": torch_ref.predict.device_table(case.description, precision, torch.device("cpu")),
    }  # fmt: skip
    resizes: tuple[Any, Any] = None, None
    if size:
        matrix = bilinear(images.shape[1], size)
        resizes = jnp.asarray(matrix, ours["table"].dtype), torch.from_numpy(matrix).to(theirs["table"].dtype)
    our_batch = MAKE_BATCH(ours, _as_jax(row), augment, resizes[0])
    their_batch = torch_ref.augment.make_batch(theirs, _as_torch(row), augment, resizes[1])
    return (
        {name: np.asarray(value) for name, value in our_batch.items()},
        {name: value.numpy() for name, value in their_batch.items()},
    )


def _row(plan: EpochPlan, step: int) -> Arrays:
    """One step of a plan: int32 (B,) each."""
    return {name: rows[step] for name, rows in dataclasses.asdict(plan).items()}


def _as_jax(row: Arrays) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in row.items()}


def _as_torch(row: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value).long() for name, value in row.items()}


def _resized_batches(case: Case, images: np.ndarray, labels: np.ndarray) -> Check:
    """Reflection, crop, flip, cutout and resizing, in this order: within γ of the resizing's sums."""
    augment, size = Augment(pad=4, pad_mode="reflect", flip=True, cutout=12), 24
    plan = make_plan(case.seed, 2, examples=EXAMPLES, batch_size=BATCH, image_size=images.shape[1],
                     pad=augment.pad, flip=augment.flip)  # fmt: skip
    matrix = bilinear(images.shape[1], size)
    found = Findings()
    why = Cause("pipeline", "where its steps are right one by one (see above), their order is not")
    for step in range(plan.steps):
        row = _row(plan, step)
        _, full_size = _made(case, images, labels, row, augment, "f64")
        ours, theirs = (batch["image"] for batch in _made(case, images, labels, row, augment, "f64", size))
        bound = C * gamma(2 * images.shape[1]) * resized(np.abs(full_size["image"]), matrix)
        found.add(elementwise(f"step {step}", ours, theirs, bound), why=lambda: why)
    return found.check(6, "resized batches with reflection, crop, flip and cutout", "f64", "largest element")


def _standardised_pixels(case: Case) -> Check:
    """All 256 values of every channel."""
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, 3)).copy()
    found = Findings()
    for precision in ("f32", "f64"):
        table = flax_resnet.predict.device_table(case.description, precision)
        ours = np.asarray(STANDARDISE(jnp.asarray(pixels), table))
        theirs = torch_ref.augment.standardise(
            torch.from_numpy(pixels),
            torch_ref.predict.device_table(case.description, precision, torch.device("cpu")),
        ).numpy()
        found.add(
            _differences(f"{precision}: all 256 values of 3 channels", ours, theirs),
            why=functools.partial(of_floats, "image", ours, theirs),
        )
    return found.check(6, "standardisation", "exact", "elements that differ")


def _resized(case: Case, precision: str) -> Check:
    """Smaller and larger images by the recipe's matrices: sums, so within γ of the sums of magnitudes."""
    images = case.images(4, 32)
    dtype = {"f32": np.float32, "f64": np.float64}[precision]
    found = Findings()
    for size in (20, 24, 28, 40):
        given, matrix = images.astype(dtype), bilinear(32, size).astype(dtype)
        ours = to_float(RESIZE(jnp.asarray(given), jnp.asarray(matrix)))
        theirs = to_float(torch_ref.augment.resize(torch.from_numpy(given), torch.from_numpy(matrix)))
        bound = C * gamma(2 * 32, precision) * resized(np.abs(images), matrix)
        found.add(
            elementwise(f"to {size} pixels", ours, theirs, bound),
            why=functools.partial(of_resizing, images, matrix, ours, theirs),
        )
    return found.check(6, "resizing", precision, "largest element")


def _differences(where: str, ours: np.ndarray, theirs: np.ndarray) -> Finding:
    if ours.shape != theirs.shape:
        return Finding(where, float("nan"), 0.0)
    return Finding(where, float((ours != theirs).sum()), 0.0)
