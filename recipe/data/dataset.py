"""A dataset in memory, whatever it was read from."""

from __future__ import annotations

import dataclasses
import functools
import hashlib

import numpy as np

from recipe.system.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """What any source of a dataset is decoded to; see `Dataset` for shapes, dtypes and order."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays and class names."""
        return _digest(self)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in memory. Its examples are in the same order from every source."""

    name: str  # one of recipe.data.NAMES
    title: str  # its name in logs and pictures
    source: str  # where the arrays came from, in one phrase
    train_images: np.ndarray  # uint8 (N, 32, 32, 3), RGB, C-contiguous
    train_labels: np.ndarray  # int32 (N,), 0 ≤ label < len(class_names)
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]  # of train_images / 255, per channel, over all pixels
    std: tuple[float, float, float]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of all arrays and class names."""
        return _digest(self)

    def hold_out(self, count: int) -> Dataset:
        """The dataset with `count` of its training images as test images, to choose a recipe by.

        They are spread evenly, so that classes stay balanced where images are sorted by them. Mean and
        standard deviation stay those of all training images. With a `count` of 0 it stays as it is.

        Raises:
          UserError: if no training image, or no test image, would be left.
        """
        total = len(self.train_images)
        if not count and not len(self.test_images):
            raise UserError(
                f"{self.title} have no test part: put some of them into test/<class>/, or add "
                f"--config.data.holdout={max(1, total // 10)} to test on so many of the {total}"
            )
        if not count:
            return self
        if count >= total:
            raise UserError(
                f"config.data.holdout={count} leaves nothing to train on: "
                f"{self.title} has {total} training images"
            )
        held_out = np.zeros(total, bool)
        held_out[np.arange(count) * total // count] = True
        return dataclasses.replace(
            self,
            title=f"{self.title}, {count} training images held out",
            train_images=self.train_images[~held_out],
            train_labels=self.train_labels[~held_out],
            test_images=self.train_images[held_out],
            test_labels=self.train_labels[held_out],
        )


def _digest(data: Arrays | Dataset) -> str:
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    digest = hashlib.sha256(repr((data.class_names, [array.shape for array in arrays])).encode())
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
