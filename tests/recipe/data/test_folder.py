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


def test_what_systems_leave_behind_is_no_class(folder: Path):
    for name in ("@eaDir", "__MACOSX", ".ipynb_checkpoints", "#recycle", "lost+found", "$RECYCLE.BIN"):
        paint(folder / "train" / name / "a.png", (8, 8), 0)
        paint(folder / "train/cat" / name / "a.png", (8, 8), 0)
    data = recipe.data.load("folder", str(folder))
    assert data.class_names == ("cat", "dog")
    assert len(data.train_images) == 3


def test_pictures_that_pillow_cannot_read_are_named_once(folder: Path, caplog: pytest.LogCaptureFixture):
    for name in ("train/cat/i.heic", "test/dog/j.HEIC"):
        (folder / name).touch()
    assert len(recipe.data.load("folder", str(folder)).train_images) == 3
    (message,) = caplog.messages
    assert message == (
        f"left out 2 images that Pillow can't read: 2 HEIC ({folder}/train/cat/i.heic, "
        f"{folder}/test/dog/j.HEIC); convert them to JPEG or PNG"
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Train", "TEST"),
        ("training", "val"),
        ("train", "valid"),
        ("TRAIN", "Validation"),
        ("Train", "testing"),
    ],
)
def test_other_names_of_the_parts(folder: Path, train: str, test: str):
    expected = recipe.data.load("folder", str(folder))
    assert expected.source == "train/ and test/, a folder per class"
    rename(folder, train=train, test=test)
    data = recipe.data.load("folder", str(folder))
    assert data.digest == expected.digest
    assert data.source == f"{train}/ and {test}/, a folder per class"


def test_a_validation_part_beside_a_test_part_is_not_used_and_said_to_be(folder: Path):
    expected = recipe.data.load("folder", str(folder)).digest
    shutil.copytree(folder / "train", folder / "val")
    data = recipe.data.load("folder", str(folder))
    assert (data.digest, data.source) == (expected, "train/ and test/, not val/, a folder per class")


def test_without_a_test_part_training_pictures_can_be_held_out(folder: Path):
    shutil.rmtree(folder / "test")
    for directory in (folder, folder / "train"):
        data = recipe.data.load("folder", str(directory))
        assert (data.class_names, data.source) == (("cat", "dog"), "a folder per class, without a test part")
        assert (len(data.train_images), data.test_images.shape) == (3, (0, 32, 32, 3))
        with pytest.raises(UserError, match=r"have no test part: put .*--config\.data\.holdout=1 to test on"):
            data.hold_out(0)
        held_out = data.hold_out(1)
        assert (held_out.train_labels.tolist(), held_out.test_labels.tolist()) == ([0, 1], [0])


def test_the_right_folder_is_named_where_another_one_was(folder: Path):
    with pytest.raises(UserError, match=rf"only the training part; .*--config\.data\.dir={folder}$"):
        recipe.data.load("folder", str(folder / "train"))
    with pytest.raises(UserError, match=rf"no train/ and test/, but .* has: --config\.data\.dir={folder}$"):
        recipe.data.load("folder", str(folder.parent))


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


def all_damaged(root: Path) -> None:
    for name in PICTURES:
        (root / name).write_bytes(b"no")


def heic_alone(root: Path) -> None:
    (root / "test/cat/z.png").unlink()
    (root / "test/cat/z.heic").touch()


def only_pictures(root: Path) -> None:
    for part in ("train", "test"):
        shutil.rmtree(root / part)
    paint(root / "a.png", (8, 8), 0)


def rename(root: Path, **names: str) -> None:
    for part, name in names.items():
        (root / part).rename(root / name)


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "part": (lambda root: shutil.rmtree(root / "train"), r"no folder .*train; pictures are looked for"),
    "no folder": (shutil.rmtree, r"no folder .*pictures; pictures are looked for in DIR"),
    "class": (lambda root: (root / "test/bird").mkdir(), "class 'bird' is in only one of"),
    "empty": (lambda root: (root / "test/cat/z.png").unlink(), r"no image in the folder .*test/cat"),
    "damaged": (lambda root: (root / "train/cat/b.png").write_text("no"), r"can't read the image .*b\.png"),
    "one class": (one_class, r"has 1 folder; two classes"),
    "strange name": (strange_name, r"the class folder 'd\\no\\udce9g' has a name that can't be printed"),
    "one colour": (one_colour, r"are all of one colour"),
    "all damaged": (all_damaged, r"5 of 5 images can't be read: can't read .*a\.png: .*; and 2 more$"),
    "HEIC alone": (heic_alone, r"Pillow can read none of the images in the folder .*test/cat: 1 HEIC \("),
    "two test parts": (lambda root: rename(root, test="Test", train="TEST"), r"holds TEST/ and Test/: call"),
    "only pictures": (only_pictures, r"has no folders; two classes are needed at least, a folder each"),
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
