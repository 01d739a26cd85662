"""Standardisation as a table, so that both engines see bit-equal inputs.

A compiler may rewrite (x/255 − mean)/std (a division by a constant becomes a multiplication, for
instance), which changes last bits. Looking the 256 possible values up leaves nothing to rewrite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def statistics(images: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of uint8 `images` (N, H, W, 3) / 255, per channel, over all pixels."""
    mean = images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
    std = images.std(axis=(0, 1, 2), dtype=np.float64) / 255
    return tuple(mean.tolist()), tuple(std.tolist())


def standardisation_table(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Return the float64 table of shape (256, 3) whose entry [p, c] is (p/255 − mean[c]) / std[c]."""
    pixels = np.arange(256, dtype=np.float64)[:, None] / 255
    return (pixels - np.asarray(mean, np.float64)) / np.asarray(std, np.float64)
