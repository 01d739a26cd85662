"""The epoch plan: every random decision of an epoch as small integer arrays.

The training step draws nothing. Either engine can replay the other's batches, and a run can go on in
the middle of an epoch, because a plan is a pure function of (seed, epoch).
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """What happens to which image in which step; every array is int32 of shape (steps, batch_size)."""

    index: np.ndarray  # the example's position in the training arrays
    crop_y: np.ndarray  # top edge of the crop in the padded image, 0 … 2·pad
    crop_x: np.ndarray  # left edge
    flip: np.ndarray  # 1: mirror left-right, after the crop
    cutout_y: np.ndarray  # centre of the cut-out square in the cropped and flipped image
    cutout_x: np.ndarray

    @property
    def steps(self) -> int:
        """The number of full batches."""
        return len(self.index)


def make_plan(
    seed: int,
    epoch: int,
    *,
    examples: int,
    batch_size: int,
    image_size: int,
    pad: int,
    flip: bool,
) -> EpochPlan:
    """Plan one epoch: a fresh order whose remainder is dropped, crop offsets, flips, cutout centres.

    Args:
      seed: the run's seed.
      epoch: which epoch, from 0.
      examples: number of training images.
      batch_size: images per step, at most `examples`.
      image_size: height and width in pixels.
      pad: pixels of padding on each side; 0 means no crop.
      flip: whether to mirror half of the images.
    """
    steps = examples // batch_size
    shape = (steps, batch_size)
    # One generator per decision: switching one of them off leaves the others as they were.
    order, crops, flips, cutouts = np.random.default_rng([seed, epoch]).spawn(4)
    crop_y, crop_x = crops.integers(0, 2 * pad + 1, (2, *shape), dtype=np.int32)
    cutout_y, cutout_x = cutouts.integers(0, image_size, (2, *shape), dtype=np.int32)
    return EpochPlan(
        index=order.permutation(examples)[: steps * batch_size].reshape(shape).astype(np.int32),
        crop_y=crop_y,
        crop_x=crop_x,
        flip=flips.integers(0, 2, shape, dtype=np.int32) * int(flip),
        cutout_y=cutout_y,
        cutout_x=cutout_x,
    )
