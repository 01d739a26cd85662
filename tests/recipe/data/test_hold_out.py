"""Training images that take the place of the test images."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import recipe.data
from recipe.system.errors import UserError


def test_every_training_image_is_either_trained_on_or_held_out():
    whole = recipe.data.load("digits")
    part = whole.hold_out(100)
    kept, held_out = list(map(bytes, part.train_images)), list(map(bytes, part.test_images))
    assert sorted(kept + held_out) == sorted(map(bytes, whole.train_images))
    assert len(held_out) == 100
    labels = {bytes(i): label for i, label in zip(whole.train_images, whole.train_labels, strict=True)}
    assert [labels[image] for image in kept] == part.train_labels.tolist()
    assert [labels[image] for image in held_out] == part.test_labels.tolist()
    assert part.title == "scikit-learn digits, 100 training images held out"
    assert (part.name, part.mean, part.std) == (whole.name, whole.mean, whole.std)


def test_images_sorted_by_class_are_held_out_alike_from_each():
    whole = recipe.data.load("digits")
    labels = np.repeat(np.arange(10, dtype=np.int32), 100)
    by_class = dataclasses.replace(whole, train_images=whole.train_images[:1000], train_labels=labels)
    np.testing.assert_array_equal(np.bincount(by_class.hold_out(50).test_labels), [5] * 10)


def test_something_must_be_left_to_train_on():
    with pytest.raises(UserError, match="holdout=1437 leaves nothing to train on"):
        recipe.data.load("digits").hold_out(1437)
