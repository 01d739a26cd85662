"""The handwritten digits that come with scikit-learn: real images, without a download."""

from __future__ import annotations

import numpy as np
from PIL import Image

from recipe.data.dataset import Dataset
from recipe.normalisation import statistics

TITLE = "scikit-learn digits"


def load() -> Dataset:
    """Return the 1,797 digits as 32×32 RGB images, 1,437 for training and 360 for testing.

    Every class is split 80/20, always in the same way.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    labels = digits.target.astype(np.int32)
    images = np.stack([_enlarge(image) for image in digits.images])
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    train, test = np.sort(train), np.sort(test)
    mean, std = statistics(images[train])
    return Dataset(
        name="digits",
        title=TITLE,
        source="the installed scikit-learn",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple(str(digit) for digit in digits.target_names),
        mean=mean,
        std=std,
    )


def _enlarge(digit: np.ndarray) -> np.ndarray:
    """An 8×8 image with values from 0 to 16 as uint8 (32, 32, 3)."""
    grey = Image.fromarray(np.round(digit * (255 / 16)).astype(np.uint8))
    return np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR).convert("RGB"))
