"""Known mistakes of the input pipeline: crop, flip, standardisation and resizing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from parity.cause import Alternatives, Cause, either


def of_bytes(
    images: np.ndarray, row: dict[str, np.ndarray], augment: Any, ours: np.ndarray, theirs: np.ndarray
) -> Cause:
    """Why a batch's bytes are wrong: a crop written as plain loops, with one mistake at a time.

    Args:
      images: uint8 (N, H, H, 3), of which the plan's row makes a batch.
      row: one step of the epoch's plan.
      augment: config.augment.
      ours: the batch, uint8 (B, H, H, 3).
      theirs: the reference's.
    """
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
    found = either(crops, alternatives, ours, theirs)
    unknown = "the bytes differ; no known mistake gives them"
    return Cause("pipeline", unknown if found.family == "unknown" else found.words)


def of_floats(name: str, ours: np.ndarray, theirs: np.ndarray) -> Cause:
    """Why a batch's "image" or "label" (`name`) is wrong after standardisation and cutout."""
    if name == "label":
        return Cause("pipeline", "the labels are not those of the images")
    if ours.shape == theirs.shape and np.array_equal(ours, theirs[..., ::-1]):
        return Cause("pipeline", "red and blue are swapped")
    # one line per channel through all pixels: its slope is due to std, its offset to mean
    if ours.shape != theirs.shape:
        return Cause("pipeline", f"the shape is {ours.shape} instead of {theirs.shape}")
    slopes = []
    for channel in range(3):
        a, b = ours[..., channel].ravel().astype(np.float64), theirs[..., channel].ravel().astype(np.float64)
        slope, offset = np.polyfit(b, a, 1)
        residual = float(np.abs(a - slope * b - offset).max())
        slopes.append(f"{slope:.6g}·x{offset:+.3g}" + (f" to {residual:.1g}" if residual > 1e-5 else ""))
    words = f"standardised (or cut out) differently: by channel it is {', '.join(slopes)} of PyTorch's"
    return Cause("pipeline", words)


def of_resizing(images: np.ndarray, matrix: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> Cause:
    """Why images (B, H, H, 3), resized by a matrix (S, H), are wrong."""
    right = functools.partial(resized, images, matrix)
    return Cause("pipeline", either(right, _other_resizes(images, len(matrix)), ours, theirs).words)


def resized(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Images (B, H, W, C) resized by a matrix (S, H = W) along both axes, in NumPy."""
    return np.einsum("ih,bhwc,jw->bijc", matrix, images, matrix, optimize=True)


def _other_resizes(images: np.ndarray, size: int) -> Alternatives:
    """What other algorithms of resizing would give."""
    given = torch.from_numpy(images).permute(0, 3, 1, 2)

    def interpolated(options: dict[str, Any]) -> np.ndarray:
        resized = torch.nn.functional.interpolate(given, size=(size, size), **options)
        return resized.permute(0, 2, 3, 1).numpy()

    algorithms: dict[str, dict[str, Any]] = {
        "resized bilinearly without antialiasing": {"mode": "bilinear"},
        "resized to the nearest pixel": {"mode": "nearest"},
        "resized bicubically": {"mode": "bicubic", "antialias": True},
        "resized by averages of areas": {"mode": "area"},
    }
    return [
        ("pipeline", words, functools.partial(interpolated, options)) for words, options in algorithms.items()
    ]
