"""What a dataset is to the rest of the program."""

from __future__ import annotations

import dataclasses

import numpy as np

from recipe.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """What every source of a dataset holds, in the dataset's own order (see `Dataset`)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in memory. The order of the examples is a property of the dataset, not of its source."""

    name: str  # one of recipe.data.NAMES
    title: str  # how every output labels it
    source: str  # where the arrays came from, in one phrase
    train_images: np.ndarray  # uint8 (N, 32, 32, 3), RGB, C-contiguous
    train_labels: np.ndarray  # int32 (N,), 0 ≤ label < len(class_names)
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]  # of train_images / 255, per channel, over all pixels
    std: tuple[float, float, float]

    def hold_out(self, count: int) -> Dataset:
        """The last `count` training images in the place of the test images: to choose a recipe by.

        Mean and standard deviation stay those of all training images.

        Raises:
          UserError: if no training image would be left.
        """
        kept = len(self.train_images) - count
        if kept < 1:
            raise UserError(
                f"config.data.holdout={count} leaves nothing to train on: "
                f"{self.title} has {len(self.train_images)} training images"
            )
        return dataclasses.replace(
            self,
            title=f"{self.title}, the last {count} training images, held out",
            train_images=self.train_images[:kept],
            train_labels=self.train_labels[:kept],
            test_images=self.train_images[kept:],
            test_labels=self.train_labels[kept:],
        )
