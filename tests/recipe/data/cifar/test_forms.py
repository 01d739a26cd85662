"""CIFAR in other forms than archive and prepared folder, each one genuine, altered and damaged."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

import recipe.data
from recipe.data.cifar import facts, npz
from recipe.data.cifar.archive import _unpickle
from recipe.data.dataset import Arrays
from recipe.system.errors import DatasetUnavailable, UserError
from tests.recipe.data.cifar.mini import (
    BINARY,
    PYTHON,
    TRAIN,
    assert_holds,
    edit_example,
    files_in,
    flip,
    place_folder,
    unpack,
    use_mini,
    use_sealed,
)


@pytest.mark.parametrize("place", ["", "{folder}", "renamed"])
@pytest.mark.parametrize(("name", "kind"), [("cifar10", 0), ("cifar10", 1), ("cifar100", 1)])
def test_unpacked_archive(name, kind, place, root, monkeypatch):
    mini = use_sealed(name, monkeypatch)
    archive = mini.cifar.archives[kind]
    unpack(mini, archive, root)
    if place == "renamed":
        (root / archive.folder).rename(root / "renamed")
    before = files_in(root)
    folder = place.format(folder=archive.folder)
    dataset = recipe.data.load(name, str(root / folder), download=False)
    assert_holds(dataset, mini.arrays)
    assert dataset.source == f"the unpacked {root / (folder or archive.folder)}"
    assert files_in(root) == before


@pytest.mark.parametrize("around", ["around", "downloads"])
def test_unpacked_archive_one_folder_deeper(around, root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    unpack(mini, mini.cifar.archives[0], root / around)
    assert_holds(recipe.data.load("cifar10", str(root), download=False), mini.arrays)


def test_archive_by_the_name_that_keras_gives_it(mini, root):
    (root / "cifar-10-batches-py.tar.gz").write_bytes(mini.files[PYTHON])
    assert_holds(recipe.data.load("cifar10", str(root), download=False), mini.arrays)


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("key", [str, str.encode])
def test_batches_pickled_again_are_read_if_the_arrays_are_genuine(protocol, key, root, monkeypatch):
    """Copies often lack batches.meta."""
    mini = use_sealed("cifar10", monkeypatch)
    archive = mini.cifar.archives[1]
    unpack(mini, archive, root)
    for name in (*archive.train, *archive.test):
        path = root / archive.folder / name
        batch = _unpickle(path.read_bytes())
        path.write_bytes(pickle.dumps({key(k): v for k, v in batch.items()}, protocol))
    meta = root / archive.folder / "batches.meta"
    meta.write_bytes(pickle.dumps({key("label_names"): [key(name) for name in mini.arrays.class_names]}))
    assert_holds(recipe.data.load("cifar10", str(root), download=False), mini.arrays)
    meta.unlink()
    assert_holds(recipe.data.load("cifar10", str(root), download=False), mini.arrays)


def keras_arrays(arrays: Arrays) -> dict[str, np.ndarray]:
    return {
        "x_train": arrays.train_images,
        "y_train": arrays.train_labels[:, None].astype(np.uint8),
        "x_test": arrays.test_images,
        "y_test": arrays.test_labels[:, None].astype(np.uint8),
    }


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("name", ["cifar10.npz", "CIFAR-10_data.npz", "other.npz"])
def test_arrays_of_keras(name, channels_first, root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    arrays = keras_arrays(mini.arrays)
    if channels_first:
        arrays |= {key: arrays[key].transpose(0, 3, 1, 2) for key in ("x_train", "x_test")}
    np.savez(root / name, **arrays)
    named = root / name if name == "other.npz" else root  # of any name, where it is named itself
    dataset = recipe.data.load("cifar10", str(named), download=False)
    assert_holds(dataset, mini.arrays)
    assert dataset.source == str(root / name)


def test_the_order_of_look_up(root, prepared, monkeypatch):
    """Each form comes before those that follow; which are damaged, and not looked at."""
    mini = use_sealed("cifar10", monkeypatch)
    (root / "cifar10.npz").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cifar10\.npz is damaged"):
        recipe.data.load("cifar10", str(root))
    archive = mini.cifar.archives[0]
    unpack(mini, archive, root)
    assert recipe.data.load("cifar10", str(root)).source.startswith("the unpacked ")
    (root / archive.folder / "test_batch.bin").write_bytes(b"damaged")
    (root / BINARY).write_bytes(mini.files[BINARY])
    assert recipe.data.load("cifar10", str(root)).source.startswith("TFDS folder ")
    (root / BINARY).write_bytes(b"damaged")
    assert recipe.data.load("cifar10", str(root)).source.startswith("TFDS folder ")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_folder_inside_the_data_folder_can_be_named(name, root, prepared, monkeypatch):
    mini = use_mini(name, monkeypatch)
    folder = place_folder(prepared[name], root, "array_record")
    for named in (folder, folder.parent):
        dataset = recipe.data.load(name, str(named), download=False)
        assert_holds(dataset, mini.arrays)
        assert dataset.source == f"TFDS folder {folder}"
    for working, named in ((folder, "."), (folder, ".."), (folder, "../.."), (folder.parent, "3.0.2")):
        monkeypatch.chdir(working)
        assert_holds(recipe.data.load(name, named, download=False), mini.arrays)


# The wrong folder.


def test_the_inside_of_a_damaged_folder_gets_the_reason_and_the_hint(mini, root, prepared, monkeypatch):
    folder = place_folder(prepared["cifar10"], root, "array_record")
    (folder / "features.json").unlink()
    monkeypatch.chdir(root.parent)
    for named in ("data/cifar10", "data/cifar10/3.0.2"):
        with pytest.raises(
            UserError, match=r"features\.json is missing; .*; name the folder .* cifar10/: data$"
        ):
            recipe.data.load("cifar10", named, download=False)


def test_the_folder_of_the_other_dataset_is_named(root, prepared, monkeypatch):
    use_mini("cifar10", monkeypatch)
    folder = place_folder(prepared["cifar10"], root, "array_record")
    with pytest.raises(UserError, match=r"holds CIFAR-10, not CIFAR-100; add --config\.data\.name=cifar10$"):
        recipe.data.load("cifar100", str(folder))


def test_the_data_folder_one_below_is_named(mini, root, prepared):
    place_folder(prepared["cifar10"], root / "tfds", "array_record")
    with pytest.raises(
        UserError, match=rf"^CIFAR-10 is in {root}/tfds, not in {root}; add --config.data.dir="
    ):
        recipe.data.load("cifar10", str(root))
    shutil.rmtree(root / "tfds")
    (root / "mine").mkdir()
    (root / "mine" / PYTHON).touch()
    with pytest.raises(UserError, match=rf"^CIFAR-10 is in {root}/mine"):
        recipe.data.load("cifar10", str(root))


def test_a_file_that_was_read_as_cifar10_is_no_cifar100(root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    np.savez(root / "data.npz", **keras_arrays(mini.arrays))
    recipe.data.load("cifar10", str(root / "data.npz"))
    with pytest.raises(UserError, match="so it is not read"):
        recipe.data.load("cifar100", str(root / "data.npz"))


def test_a_file_is_not_said_to_be_missing(mini, root):
    (root / BINARY).write_bytes(mini.files[BINARY])
    with pytest.raises(UserError, match=rf"is a file; name the folder that holds it: .*={root}$"):
        recipe.data.load("cifar10", str(root / BINARY))


@pytest.mark.parametrize("layout", ["train/{}", "{}"])
def test_pictures_by_class_are_not_downloaded_over(layout, mini, root, monkeypatch):
    names = ("ape", "bee", "cat")
    monkeypatch.setitem(facts.CIFAR, "cifar10", dataclasses.replace(mini.cifar, class_names=names))
    for name in names:
        (root / layout.format(name)).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(root / layout.format(name) / "0.png")
    with pytest.raises(UserError, match=r"holds pictures in class folders.*--config\.data\.name=folder"):
        recipe.data.load("cifar10", str(root))


def test_a_table_of_hugging_face_is_named_with_what_to_do(mini, root):
    table = root / "plain_text" / "train-00000-of-00001.parquet"
    table.parent.mkdir()
    table.write_bytes(b"PAR1")
    reason = rf"{table} is a table of Hugging Face's \(parquet\), which .* into {{}}, or save its"
    for named, where in ((root, root), (table, table.parent)):
        with pytest.raises(UserError, match=reason.format(where)):
            recipe.data.load("cifar10", str(named), download=True)


@pytest.mark.parametrize("name", ["cifar-10-batches-mat/data_batch_1.mat", "cifar-10-matlab.tar.gz"])
def test_the_matlab_version_is_named(name, mini, root):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    with pytest.raises(
        UserError, match=rf"is for MATLAB and is not read; put {BINARY} or {PYTHON} into {root}"
    ):
        recipe.data.load("cifar10", str(root))


# An altered copy.


def change_pixel(arrays: dict[str, np.ndarray]) -> None:
    arrays["x_test"] = arrays["x_test"].copy()
    arrays["x_test"][3, 4, 5, 1] ^= 1


def change_label(arrays: dict[str, np.ndarray]) -> None:
    arrays["y_train"] = arrays["y_train"].copy()
    arrays["y_train"][7] = (arrays["y_train"][7] + 1) % 10


def swap_images(arrays: dict[str, np.ndarray]) -> None:
    arrays["x_train"] = arrays["x_train"][[1, 0, *range(2, TRAIN)]]


ALTERED = {
    "pixel": (change_pixel, "holds other images, labels or class names, so it is damaged or altered"),
    "label": (change_label, "holds other images, labels or class names"),
    "order": (swap_images, "holds other images, labels or class names"),
    "part": (
        lambda a: a.update(x_test=a["x_test"][1:], y_test=a["y_test"][1:]),
        "holds 20 \\+ 9 images instead",
    ),
    "float": (lambda a: a.update(x_test=a["x_test"] / 255), "x_test in .* is float64 of shape"),
    "size": (lambda a: a.update(x_train=a["x_train"][:, :28, :28]), r"of shape \(20, 28, 28, 3\) instead of"),
    "missing": (lambda a: a.pop("y_test"), "has no y_test, as Keras' arrays have"),
}


@pytest.mark.parametrize("case", ALTERED)
def test_altered_arrays_are_never_cifar(case, root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    change, reason = ALTERED[case]
    arrays = keras_arrays(mini.arrays)
    change(arrays)
    np.savez(root / "cifar10.npz", **arrays)
    with pytest.raises(UserError, match=rf"^[^\n]*{reason}[^\n]*$") as caught:
        recipe.data.load("cifar10", str(root))
    assert not isinstance(caught.value, DatasetUnavailable)


def test_a_small_file_that_unpacks_to_gigabytes_is_not_unpacked(root, monkeypatch):
    use_sealed("cifar10", monkeypatch)
    monkeypatch.setattr(npz, "MOST_BYTES", 10**6)
    np.savez_compressed(root / "cifar10.npz", **dict.fromkeys(npz.KEYS, np.zeros(10**6, np.uint8)))
    assert (root / "cifar10.npz").stat().st_size < 10**5
    with pytest.raises(UserError, match=r"it unpacks to 4,000,\d+ bytes, more than CIFAR-10 has"):
        recipe.data.load("cifar10", str(root))


def test_a_member_that_is_no_array_is_one_line(root, monkeypatch):
    """NumPy then gives its bytes."""
    mini = use_sealed("cifar10", monkeypatch)
    np.savez(root / "cifar10.npz", **keras_arrays(mini.arrays))
    with zipfile.ZipFile(root / "arrays.npz", "w") as new, zipfile.ZipFile(root / "cifar10.npz") as old:
        for name in old.namelist():
            new.writestr(name, b"no array" if name == "y_train.npy" else old.read(name))
    (root / "arrays.npz").replace(root / "cifar10.npz")
    with pytest.raises(UserError, match=r"cifar10\.npz is damaged \(ValueError: not all that is in it"):
        recipe.data.load("cifar10", str(root))


@pytest.mark.parametrize("kind", [0, 1], ids=["binary", "python"])
@pytest.mark.parametrize("damage", ["label", "names", "truncated", "empty", "missing"])
def test_altered_unpacked_archive(damage, kind, root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    archive = mini.cifar.archives[kind]
    unpack(mini, archive, root)
    path = root / archive.folder / (archive.name_files[0] if damage == "names" else archive.train[2])
    content = bytearray(path.read_bytes())
    if damage == "label":
        at = 0 if kind == 0 else content.index(b"labels](J") + len(b"labels](J")
        content[at] = (content[at] + 1) % 10
    elif damage == "names":
        content = content.replace(b"class3", b"class_")
    elif damage != "missing":
        del content[-1000 if damage == "truncated" else 0 :]
    path.unlink() if damage == "missing" else path.write_bytes(content)
    reason = {"label": "is not CIFAR-10: it holds other", "names": "is not CIFAR-10: it holds other"}.get(
        damage
    )
    reason = reason or {"missing": f"{path.name} is missing"}.get(damage)
    reason = reason or ("holds 16 \\+ 10 images" if (damage, kind) == ("empty", 0) else "damaged")
    with pytest.raises(UserError, match=rf"{reason}.*; unpack {archive.file} again") as caught:
        recipe.data.load("cifar10", str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["npz", "binary", "python"])
def test_any_flipped_bit_is_found_or_does_no_harm(form, root, monkeypatch):
    mini = use_sealed("cifar10", monkeypatch)
    if form == "npz":
        path = root / "cifar10.npz"
        np.savez(path, **keras_arrays(mini.arrays))
    else:
        archive = mini.cifar.archives[form == "python"]
        unpack(mini, archive, root)
        path = root / archive.folder / archive.train[1]
    sound = path.read_bytes()
    found = []
    rng = np.random.default_rng(0)
    # the beginning and the end, where headers are, and anywhere
    for position in [*range(60), *range(len(sound) - 60, len(sound)), *rng.integers(0, len(sound), 60)]:
        path.write_bytes(sound)
        flip(position)(path)
        try:
            assert_holds(recipe.data.load("cifar10", str(root), download=False), mini.arrays)
        except UserError as error:
            found.append(str(error))
    assert len(found) > 60
    assert not any("\n" in message for message in found)


def test_altered_tfds_folder(root, prepared, monkeypatch):
    use_sealed("cifar10", monkeypatch)
    folder = place_folder(prepared["cifar10"], root, "tfrecord")
    assert recipe.data.load("cifar10", str(root)).source.startswith("TFDS folder")
    (path,) = folder.glob("*-test.*")
    edit_example(path, lambda feature: feature["label"].int64_list.value.__setitem__(0, 7), 0)
    edit_example(path, lambda feature: feature["label"].int64_list.value.__setitem__(0, 8), 1)
    with pytest.raises(UserError, match=r"3\.0\.2 is not CIFAR-10: it holds other .* made anew$"):
        recipe.data.load("cifar10", str(root))


def test_other_training_images_are_not_cifar100(root, prepared, monkeypatch):
    """Its SHA-256 is not known here, but the mean of the training images is."""
    mini = use_mini("cifar100", monkeypatch)
    place_folder(prepared["cifar100"], root, "array_record")
    recipe.data.load("cifar100", str(root))
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    mean = (mini.cifar.mean[0], mini.cifar.mean[1] + 1 / (255 * 1024 * TRAIN), mini.cifar.mean[2])
    monkeypatch.setitem(facts.CIFAR, "cifar100", dataclasses.replace(mini.cifar, mean=mean))
    with pytest.raises(UserError, match="is not CIFAR-100: it holds other images"):
        recipe.data.load("cifar100", str(root))


def test_a_form_of_cifar100_that_cannot_be_checked_is_not_read(root, monkeypatch):
    mini = use_mini("cifar100", monkeypatch)
    np.savez(root / "cifar100.npz", **keras_arrays(mini.arrays))
    with pytest.raises(
        UserError, match=r"cifar100\.npz can't be told from an altered copy, so it is not read"
    ):
        recipe.data.load("cifar100", str(root))
    binary, python = mini.cifar.archives
    unpack(mini, binary, root)
    with pytest.raises(
        UserError, match="cifar-100-binary is there, but nobody publishes checksums of its files"
    ):
        recipe.data.load("cifar100", str(root))
    shutil.rmtree(root / binary.folder)
    unpack(mini, python, root)
    flip(100)(root / python.folder / "train")
    with pytest.raises(UserError, match=r"cifar-100-python/train is not the official file of CIFAR-100"):
        recipe.data.load("cifar100", str(root))
