"""The resizing matrices, against PyTorch's and Pillow's antialiased bilinear resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from recipe.resize import Resize, bilinear


@pytest.mark.parametrize(
    ("source", "target"), [(32, 20), (32, 24), (32, 28), (33, 8), (32, 48), (28, 32), (9, 31)]
)
def test_bilinear_is_what_pytorch_and_pillow_do(source: int, target: int):
    image = np.random.default_rng(0).normal(size=(source, source))
    matrix = bilinear(source, target)
    ours = matrix @ image @ matrix.T
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size=(target, target), mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), rtol=0, atol=1e-13)
    pillow = Image.fromarray(image.astype(np.float32)).resize((target, target), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours, np.asarray(pillow), rtol=0, atol=1e-6)


def test_no_change_of_size_changes_nothing():
    assert np.array_equal(bilinear(32, 32), np.eye(32))


def test_halving_by_hand():
    """Inner pixels at ½ … of a triangle two pixels wide: 1/8, 3/8, 3/8, 1/8; the border has three."""
    np.testing.assert_allclose(bilinear(6, 3)[1], np.array([0, 1, 3, 3, 1, 0]) / 8)
    np.testing.assert_allclose(bilinear(6, 3)[0], np.array([3, 3, 1, 0, 0, 0]) / 7)


def test_sizes_begin_at_their_fraction_of_all_epochs():
    resize = Resize((20, 24, 28, 32), (0, 0.3, 0.6, 0.8))
    found = [resize.size_of_epoch(epoch, 10) for epoch in range(10)]
    assert found == [20] * 3 + [24] * 3 + [28] * 2 + [32] * 2
    assert resize.changes(10) == ((3, "24 px"), (6, "28 px"), (8, "32 px"))
    none = Resize()
    assert none.size_of_epoch(0, 10) is None
    assert none.changes(10) == ()
