"""The bundled digits."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import recipe.data


@pytest.fixture(scope="module")
def digits():
    return recipe.data.load("digits")


def test_shapes_and_labels(digits):
    assert (digits.name, digits.title) == ("digits", "scikit-learn digits")
    assert digits.class_names == tuple("0123456789")
    for images, labels, n in (
        (digits.train_images, digits.train_labels, 1437),
        (digits.test_images, digits.test_labels, 360),
    ):
        assert images.shape == (n, 32, 32, 3)
        assert images.dtype == np.uint8
        assert images.flags.c_contiguous
        assert (images[..., 0] == images[..., 1]).all()
        assert (images[..., 0] == images[..., 2]).all()
        assert labels.shape == (n,)
        assert labels.dtype == np.int32


def test_every_class_is_split_80_to_20(digits):
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    np.testing.assert_array_equal(train + test, np.bincount(load_digits().target))
    np.testing.assert_allclose(test, (train + test) / 5, atol=1)


def test_every_image_is_there_once_and_with_its_label(digits):
    def key(image: np.ndarray, label: int) -> tuple[bytes, int]:
        # The four pixels in the middle of an enlarged pixel average to nearly its value.
        grey = image[..., 0].astype(float).reshape(8, 4, 8, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))
        return grey.astype(np.uint8).tobytes(), int(label)

    images = np.concatenate([digits.train_images, digits.test_images])
    labels = np.concatenate([digits.train_labels, digits.test_labels])
    assert len({key(image, label) for image, label in zip(images, labels, strict=True)}) == 1797

    # Averaged over 4×4 pixels, an enlarged image is nearly the original: find each by its nearest.
    small = images[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)
    original = load_digits().data * (255 / 16)
    nearest = [int(np.argmin(((original - image) ** 2).sum(axis=1))) for image in small[::20]]
    np.testing.assert_array_equal(load_digits().target[nearest], labels[::20])


def test_brightness_covers_the_whole_range(digits):
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 255


def test_constants_are_those_of_the_training_images(digits):
    pixels = digits.train_images.reshape(-1, 3) / 255
    np.testing.assert_allclose(digits.mean, pixels.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(digits.std, pixels.std(axis=0), rtol=1e-9)
    assert all(type(value) is float for value in (*digits.mean, *digits.std))


def test_split_never_changes(digits):
    """Runs of different dates can be compared only if they were tested on the same images."""
    assert hashlib.sha256(digits.test_labels.tobytes()).hexdigest()[:16] == "9ce5b942abae7d0e"
    assert hashlib.sha256(digits.test_images.tobytes()).hexdigest()[:16] == "03c054509d0f0188"


def test_there_is_nothing_to_get():
    assert "scikit-learn" in recipe.data.how_to_get("digits")


def test_imports_are_cheap():
    code = """
import sys
import recipe.data
heavy = {"tensorflow_datasets", "sklearn", "requests", "array_record", "jax", "torch", "tensorflow"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
recipe.data.load("digits")
heavy.remove("sklearn")
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
