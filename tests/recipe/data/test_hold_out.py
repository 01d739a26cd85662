"""Training images that take the place of the test images."""

from __future__ import annotations

import numpy as np
import pytest

import recipe.data
from recipe.errors import UserError


def test_held_out_images_are_not_trained_on_and_test_images_are_not_seen():
    whole = recipe.data.load("digits")
    part = whole.hold_out(100)
    np.testing.assert_array_equal(np.concatenate([part.train_images, part.test_images]), whole.train_images)
    np.testing.assert_array_equal(np.concatenate([part.train_labels, part.test_labels]), whole.train_labels)
    assert len(part.test_images) == len(part.test_labels) == 100
    assert part.title == "scikit-learn digits, the last 100 training images, held out"
    assert (part.name, part.mean, part.std) == (whole.name, whole.mean, whole.std)


def test_something_must_be_left_to_train_on():
    with pytest.raises(UserError, match="holdout=1437 leaves nothing to train on"):
        recipe.data.load("digits").hold_out(1437)
