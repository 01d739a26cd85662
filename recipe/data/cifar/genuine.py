"""Whether arrays are those of CIFAR, so that no damaged or altered copy passes for it."""

from __future__ import annotations

import numpy as np

from recipe.data.cifar.facts import Cifar
from recipe.data.dataset import Arrays
from recipe.system.errors import UserError


def check(cifar: Cifar, arrays: Arrays, what: str, remedy: str) -> Arrays:
    """Return `arrays` if they are the whole dataset, bit for bit.

    Where no SHA-256 of the arrays is known, the mean of each channel, published with eight digits, stands in:
    it shows a changed training image, but no changed label.

    Args:
      cifar: the dataset.
      arrays: what was read.
      what: where from, for the message.
      remedy: what to do otherwise.

    Raises:
      UserError: if they are not.
    """
    counts = f"{len(arrays.train_labels):,} + {len(arrays.test_labels):,}"
    if counts != f"{cifar.train_size:,} + {cifar.test_size:,}":
        raise UserError(
            f"{what} is not {cifar.title}: it holds {counts} images instead of "
            f"{cifar.train_size:,} + {cifar.test_size:,}; {remedy}"
        )
    if not (arrays.digest == cifar.digest if cifar.digest else _has_mean(cifar, arrays.train_images)):
        raise UserError(
            f"{what} is not {cifar.title}: it holds other images, labels or class names, so it is damaged or "
            f"altered; {remedy}"
        )
    return arrays


def _has_mean(cifar: Cifar, images: np.ndarray) -> bool:
    mean = images.sum(axis=(0, 1, 2), dtype=np.int64) / (255 * images[..., 0].size)
    return bool(np.abs(mean - cifar.mean).max() < 1e-8)
