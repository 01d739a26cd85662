"""Smaller images early in training cost less; both engines resize them with the same matrices."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Resize:
    """The image sizes of a run: each holds from its start, a fraction of all epochs, until the next."""

    sizes: tuple[int, ...] = ()  # pixels; () keeps the data's own size
    starts: tuple[float, ...] = ()

    def size_of_epoch(self, epoch: int, epochs: int) -> int | None:
        """The image size in pixels of an epoch (from 0); None where images stay as they are.

        Args:
          epoch: which epoch, from 0.
          epochs: of the whole run.
        """
        begun = [
            size
            for size, start in zip(self.sizes, self.starts, strict=True)
            if round(start * epochs) <= epoch
        ]
        return begun[-1] if begun else None

    def changes(self, epochs: int) -> tuple[tuple[int, str], ...]:
        """(epoch from 0, label) of every change of the image size from one epoch to the next, for plots."""
        sizes = [self.size_of_epoch(epoch, epochs) for epoch in range(epochs)]
        return tuple(
            (epoch, f"{sizes[epoch]} px") for epoch in range(1, epochs) if sizes[epoch] != sizes[epoch - 1]
        )


def bilinear(source: int, target: int) -> np.ndarray:
    """The matrix (target, source), float64, that resizes an axis bilinearly, antialiased.

    Output pixel i has its centre at (i + ½)·s in input pixels, s = source/target. Input pixels weigh in by a
    triangle around it, max(s, 1) pixels to each side, normalised to a sum of 1: as Pillow, and as
    `torch.nn.functional.interpolate(mode="bilinear", antialias=True)`.
    """
    scale = source / target
    centre = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centre[:, None]) / max(scale, 1)
    weights = (1 - distance).clip(0)
    return weights / weights.sum(1, keepdims=True)
