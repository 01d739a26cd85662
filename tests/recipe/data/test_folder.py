"""A dataset from pictures in folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import recipe.data
from recipe.data import images
from recipe.system.errors import UserError

# file → size (width, height), grey value
PICTURES = {
    "train/cat/b.png": ((32, 32), 10),
    "train/cat/a.png": ((80, 40), 20),
    "train/dog/deep/er/x.png": ((5, 9), 30),
    "test/dog/y.bmp": ((64, 64), 40),
    "test/cat/z.png": ((32, 32), 50),
}


def paint(path: Path, size: tuple[int, int], grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey, grey, grey)).save(path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, picture in PICTURES.items():
        paint(tmp_path / "pictures" / name, *picture)
    return tmp_path / "pictures"


def test_pictures_labels_and_names(folder: Path):
    data = recipe.data.load("folder", str(folder))
    assert data.class_names == ("cat", "dog")
    assert data.train_labels.tolist() == [0, 0, 1]
    assert data.test_labels.tolist() == [0, 1]
    assert data.train_images[:, 0, 0, 0].tolist() == [20, 10, 30]  # a.png, b.png, x.png
    assert data.test_images[:, 0, 0, 0].tolist() == [50, 40]
    assert data.train_images.shape == (3, 32, 32, 3)
    assert (data.train_images.dtype, data.train_labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_allclose(data.mean, [20 / 255] * 3)
    np.testing.assert_allclose(data.std, [np.std([10, 20, 30]) / 255] * 3)
    assert recipe.data.classes("folder", str(folder)) == 2


def test_a_picture_is_what_a_prediction_makes_of_it(folder: Path):
    path = folder / "train/cat/a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)).save(path)
    data = recipe.data.load("folder", str(folder))
    np.testing.assert_array_equal(data.train_images[0], images.load(path, 32))


def test_a_picture_that_changes_deep_below_is_read_anew(folder: Path):
    recipe.data.load("folder", str(folder))
    paint(folder / "train/dog/deep/er/x.png", (32, 32), 255)
    assert recipe.data.load("folder", str(folder)).train_images[2, 0, 0].tolist() == [255, 255, 255]


def test_a_picture_behind_a_link_that_changes_is_read_anew(folder: Path):
    elsewhere = folder.parent / "elsewhere"
    (folder / "train/dog").rename(elsewhere)
    (folder / "train/dog").symlink_to(elsewhere)
    assert len(recipe.data.load("folder", str(folder)).train_images) == 3
    paint(elsewhere / "new.png", (32, 32), 1)
    assert len(recipe.data.load("folder", str(folder)).train_images) == 4


def test_new_empty_classes_and_hidden_folders(folder: Path):
    recipe.data.load("folder", str(folder))
    (folder / "train/cat/.thumbs").mkdir()
    (folder / "train/cat/.thumbs/a.png").write_text("no picture")
    assert len(recipe.data.load("folder", str(folder)).train_images) == 3
    for part in ("train", "test"):
        (folder / part / "owl").mkdir()
    with pytest.raises(UserError, match=r"no image in the folder .*train/owl"):
        recipe.data.load("folder", str(folder))


def test_a_channel_that_is_always_the_same_becomes_zero(folder: Path):
    for name, (size, grey) in PICTURES.items():
        Image.new("RGB", size, (grey, grey, 9)).save(folder / name)
    data = recipe.data.load("folder", str(folder))
    assert data.mean[2] == 9 / 255
    assert data.std[2] == 1


def one_class(root: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(root / part / "dog")


def strange_name(root: Path) -> None:
    for part in ("train", "test"):
        (root / part / "dog").rename(root / part / "d\no\udce9g")


def one_colour(root: Path) -> None:
    for name in PICTURES:
        paint(root / name, (32, 32), 7)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "part": (lambda root: shutil.rmtree(root / "test"), r"no folder .*test; pictures are looked for in DIR"),
    "class": (lambda root: (root / "test/bird").mkdir(), "class 'bird' is in only one of"),
    "empty": (lambda root: (root / "test/cat/z.png").unlink(), r"no image in the folder .*test/cat"),
    "damaged": (lambda root: (root / "train/cat/b.png").write_text("no"), r"can't read the image .*b\.png"),
    "one class": (one_class, r"has 1 folders; two classes"),
    "strange name": (strange_name, r"the class folder 'd\\no\\udce9g' has a name that can't be printed"),
    "one colour": (one_colour, r"are all of one colour"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_one_line(folder: Path, case: str):
    spoil, message = WRONG[case]
    spoil(folder)
    with pytest.raises(UserError, match=message):
        recipe.data.load("folder", str(folder))


def test_a_folder_must_be_named():
    with pytest.raises(UserError, match=r"needs --config\.data\.dir=DIR, with DIR/train/<class>"):
        recipe.data.load("folder")
