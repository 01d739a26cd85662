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
from ml_collections import ConfigDict

import flax_resnet.augment
import flax_resnet.predict
import torch_ref.augment
import torch_ref.predict
from parity.arrays import Arrays
from parity.budgets.reference import C, gamma
from parity.engines import to_float, to_nhwc
from parity.verify.case import Case
from parity.verify.diagnose import causes
from parity.verify.result import Check, Finding, elementwise, first_over
from recipe.plan import EpochPlan, make_plan
from recipe.resize import bilinear

EXAMPLES, BATCH = 70, 32
AUGMENTS = [
    {"pad": 4, "pad_mode": "zero", "flip": True, "cutout": 0},
    {"pad": 4, "pad_mode": "reflect", "flip": True, "cutout": 0},
    {"pad": 2, "pad_mode": "zero", "flip": False, "cutout": 12},
    {"pad": 0, "pad_mode": "zero", "flip": True, "cutout": 7},
]


def check(case: Case) -> Iterator[Check]:
    """Bytes after crop and flip, floats after standardisation, labels: all equal. Then resized images."""
    rng = np.random.default_rng(case.seed)
    size = 32
    images = rng.integers(0, 256, (EXAMPLES, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, case.description.num_classes, EXAMPLES)
    for options in AUGMENTS:
        augment = ConfigDict(options)
        plan = make_plan(case.seed, 1, examples=EXAMPLES, batch_size=BATCH, image_size=size,
                         pad=augment.pad, flip=augment.flip)  # fmt: skip
        yield _batches(case, images, labels, plan, augment)
    yield _standardised_pixels(case)
    for precision in ("f64", "f32"):
        yield _resized(case, precision)
    yield _resized_batches(case, images, labels)


def _batches(case: Case, images: np.ndarray, labels: np.ndarray, plan: EpochPlan, augment: Any) -> Check:
    findings: list[Finding] = []
    family = cause = ""
    for step in range(plan.steps):
        row = {name: rows[step] for name, rows in dataclasses.asdict(plan).items()}
        ours_plan = {name: jnp.asarray(value) for name, value in row.items()}
        theirs_plan = {name: torch.from_numpy(value).long() for name, value in row.items()}
        bytes_ours = np.asarray(
            jax.jit(flax_resnet.augment.crop_and_flip, static_argnums=(2, 3))(
                jnp.asarray(images), ours_plan, augment.pad, augment.pad_mode
            )
        )
        bytes_theirs = torch_ref.augment.crop_and_flip(
            torch.from_numpy(images), theirs_plan, augment.pad, augment.pad_mode
        ).numpy()
        findings.append(_differences(f"step {step}: bytes after crop and flip", bytes_ours, bytes_theirs))
        if findings[-1].error and not cause:
            family, cause = _cause(images, row, augment, bytes_ours, bytes_theirs)
        for precision in ("f32", "f64"):
            ours, theirs = _made(case, images, labels, row, augment, precision)
            for name, what in (("image", f"{precision} floats"), ("label", "labels")):
                findings.append(_differences(f"step {step}: {what}", ours[name], theirs[name]))
                if findings[-1].error and not cause:
                    family, cause = _cause_of_floats(name, ours[name], theirs[name])
    words = ", ".join(f"{key} {value}" for key, value in augment.items())
    return Check(
        6, f"batches from one plan: {words}", "exact", "elements that differ", tuple(findings), family, cause
    )


def _made(
    case: Case,
    images: np.ndarray,
    labels: np.ndarray,
    row: Arrays,
    augment: Any,
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
    make_batch = flax_resnet.augment.make_batch
    made = jax.jit(lambda data, plan, matrix: make_batch(data, plan, augment, matrix))
    batch = made(ours, {name: jnp.asarray(value) for name, value in row.items()}, resizes[0])
    their_row = {name: torch.from_numpy(value).long() for name, value in row.items()}
    other = torch_ref.augment.make_batch(theirs, their_row, augment, resizes[1])
    return (
        {name: np.asarray(value) for name, value in batch.items()},
        {name: value.numpy() for name, value in other.items()},
    )


def _resized_batches(case: Case, images: np.ndarray, labels: np.ndarray) -> Check:
    """Reflection, crop, flip, cutout and resizing, in this order: within γ of the resizing's sums."""
    augment, size = ConfigDict({"pad": 4, "pad_mode": "reflect", "flip": True, "cutout": 12}), 24
    plan = make_plan(case.seed, 2, examples=EXAMPLES, batch_size=BATCH, image_size=images.shape[1],
                     pad=augment.pad, flip=augment.flip)  # fmt: skip
    matrix = bilinear(images.shape[1], size)
    findings = []
    for step in range(plan.steps):
        row = {name: rows[step] for name, rows in dataclasses.asdict(plan).items()}
        _, whole = _made(case, images, labels, row, augment, "f64")
        ours, theirs = (batch["image"] for batch in _made(case, images, labels, row, augment, "f64", size))
        bound = C * gamma(2 * images.shape[1]) * _resize(np.abs(whole["image"]), matrix)
        findings.append(elementwise(f"step {step}", ours, theirs, bound))
    family = cause = ""
    if first_over(findings):
        family, cause = "pipeline", "where its steps are right one by one (see above), their order is not"
    name = "resized batches with reflection, crop, flip and cutout"
    return Check(6, name, "f64", "largest element", tuple(findings), family, cause)


def _standardised_pixels(case: Case) -> Check:
    """All 256 values of every channel."""
    pixels = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, 3)).copy()
    findings, family, cause = [], "", ""
    for precision in ("f32", "f64"):
        ours = np.asarray(
            jax.jit(flax_resnet.augment.standardise)(
                jnp.asarray(pixels), flax_resnet.predict.device_table(case.description, precision)
            )
        )
        theirs = torch_ref.augment.standardise(
            torch.from_numpy(pixels),
            torch_ref.predict.device_table(case.description, precision, torch.device("cpu")),
        ).numpy()
        findings.append(_differences(f"{precision}: all 256 values of 3 channels", ours, theirs))
        if findings[-1].error and not cause:
            family, cause = _cause_of_floats("image", ours, theirs)
    return Check(6, "standardisation", "exact", "elements that differ", tuple(findings), family, cause)


def _resized(case: Case, precision: str) -> Check:
    """Smaller and larger images by the recipe's matrices: sums, so within γ of the sums of magnitudes."""
    images = case.images(4, 32)
    dtype = {"f32": np.float32, "f64": np.float64}[precision]
    findings: list[Finding] = []
    family = cause = ""
    for size in (20, 24, 28, 40):
        given, matrix = images.astype(dtype), bilinear(32, size).astype(dtype)
        ours = to_float(jax.jit(flax_resnet.augment.resize)(jnp.asarray(given), jnp.asarray(matrix)))
        theirs = to_float(torch_ref.augment.resize(torch.from_numpy(given), torch.from_numpy(matrix)))
        bound = C * gamma(2 * 32, precision) * _resize(np.abs(images), matrix)
        findings.append(elementwise(f"to {size} pixels", ours, theirs, bound))
        if findings[-1].ratio > 1 and not cause:
            _, cause = causes.either(
                functools.partial(_resize, images, matrix), _other_resizes(images, size), ours, theirs
            )
            family = "pipeline"
    return Check(6, "resizing", precision, "largest element", tuple(findings), family, cause)


def _resize(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.einsum("ih,bhwc,jw->bijc", matrix, images, matrix, optimize=True)


def _other_resizes(images: np.ndarray, size: int) -> causes.Alternatives:
    """What other ways of resizing would give."""
    given = torch.from_numpy(images).permute(0, 3, 1, 2)

    def interpolated(options: dict[str, Any]) -> np.ndarray:
        return to_nhwc(torch.nn.functional.interpolate(given, size=(size, size), **options))

    ways: dict[str, dict[str, Any]] = {
        "resized bilinearly without antialiasing": {"mode": "bilinear"},
        "resized to the nearest pixel": {"mode": "nearest"},
        "resized bicubically": {"mode": "bicubic", "antialias": True},
        "resized by averages of areas": {"mode": "area"},
    }
    return [("pipeline", words, functools.partial(interpolated, options)) for words, options in ways.items()]


def _differences(where: str, ours: np.ndarray, theirs: np.ndarray) -> Finding:
    if ours.shape != theirs.shape:
        return Finding(where, float("nan"), 0.0)
    return Finding(where, float((ours != theirs).sum()), 0.0)


def _cause(
    images: np.ndarray, row: dict[str, np.ndarray], augment: Any, ours: np.ndarray, theirs: np.ndarray
) -> causes.Cause:
    """The obvious slow crop, with one mistake at a time."""
    mode = {"zero": "constant", "reflect": "reflect"}[augment.pad_mode]
    size = images.shape[1]

    def crops(dy: int = 0, dx: int = 0, axis: int = 1, flip: Any = row["flip"], first: bool = False,
              mode: Any = mode, y: str = "crop_y", x: str = "crop_x",
              shift: int = 0) -> np.ndarray:  # fmt: skip
        batch = []
        for i, index in enumerate((row["index"] + shift) % len(images)):
            image = images[index]
            if first and flip[i]:
                image = np.flip(image, axis)
            padded = np.pad(image, ((augment.pad + 2,) * 2, (augment.pad + 2,) * 2, (0, 0)), mode)
            top, left = row[y][i] + 2 + dy, row[x][i] + 2 + dx
            crop = padded[top : top + size, left : left + size]
            batch.append(np.flip(crop, axis) if flip[i] and not first else crop)
        return np.stack(batch)

    alternatives = [
        *(("pipeline", f"the crop is off by {dy} rows and {dx} columns", lambda dy=dy, dx=dx: crops(dy, dx))
          for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx),
        ("pipeline", "flipped top-bottom instead of left-right", lambda: crops(axis=0)),
        ("pipeline", "not flipped", lambda: crops(flip=row["flip"] * 0)),
        ("pipeline", "flipped exactly where it should not be", lambda: crops(flip=1 - row["flip"])),
        ("pipeline", "flipped before the crop", lambda: crops(first=True)),
        ("pipeline", "rows and columns of the crop are swapped", lambda: crops(y="crop_x", x="crop_y")),
        ("pipeline", "padded by reflection", lambda: crops(mode="reflect")),
        ("pipeline", "padded with black", lambda: crops(mode="constant")),
        ("pipeline", "padded with the border", lambda: crops(mode="edge")),
        ("pipeline", "padded with the border repeated in the mirror", lambda: crops(mode="symmetric")),
        ("pipeline", "the neighbouring example", lambda: crops(shift=1)),
        ("pipeline", "red and blue are swapped", lambda: crops()[..., ::-1]),
    ]  # fmt: skip
    family, cause = causes.either(crops, alternatives, ours, theirs)
    return "pipeline", cause if family != "unknown" else "the bytes differ; no known mistake gives them"


def _cause_of_floats(name: str, ours: np.ndarray, theirs: np.ndarray) -> causes.Cause:
    if name == "label":
        return "pipeline", "the labels are not those of the images"
    if ours.shape == theirs.shape and np.array_equal(ours, theirs[..., ::-1]):
        return "pipeline", "red and blue are swapped"
    # one line per channel through all pixels: slope and offset tell std and mean
    if ours.shape != theirs.shape:
        return "pipeline", f"the shape is {ours.shape} instead of {theirs.shape}"
    slopes = []
    for channel in range(3):
        a, b = ours[..., channel].ravel().astype(np.float64), theirs[..., channel].ravel().astype(np.float64)
        slope, offset = np.polyfit(b, a, 1)
        residual = float(np.abs(a - slope * b - offset).max())
        slopes.append(f"{slope:.6g}·x{offset:+.3g}" + (f" to {residual:.1g}" if residual > 1e-5 else ""))
    return (
        "pipeline",
        f"standardised (or cut out) differently: by channel it is {', '.join(slopes)} of PyTorch's",
    )
