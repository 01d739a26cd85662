"""CIFAR from every source, each one sound and damaged, at the size of a few dozen images."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

import recipe.data
from recipe.data.cifar import facts, prepare, tfds_folder
from recipe.data.cifar.archive import Archive, PythonArchive
from recipe.system.errors import DatasetUnavailable, UserError
from tests.recipe.data.cifar.mini import (
    BINARY,
    MINI,
    PYTHON,
    TEST,
    TRAIN,
    Mini,
    assert_holds,
    edit_example,
    edit_info,
    files_in,
    flip,
    place_folder,
    read_records,
    tar_gz,
    use_mini,
    write_records,
)

REAL = os.environ.get("TFDS_DATA_DIR", "")
needs_real_data = pytest.mark.skipif(
    not (Path(REAL) / "cifar10").is_dir() or not REAL, reason="TFDS_DATA_DIR names no folder with cifar10"
)


# Every source gives the same arrays in the same order.


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("place", ["", "downloads", "downloads/manual"])
@pytest.mark.parametrize("kind", [0, 1], ids=["binary", "python"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_archive(name, kind, place, root, monkeypatch):
    mini = use_mini(name, monkeypatch)
    file = mini.cifar.archives[kind].file
    (root / place).mkdir(parents=True, exist_ok=True)
    (root / place / file).write_bytes(mini.files[file])
    for _ in range(2):  # from the archive, then from the folder made of it
        dataset = recipe.data.load(name, str(root), download=False)
        assert_holds(dataset, mini.arrays)
        assert dataset.source == f"TFDS folder {root}/{name}/3.0.2"
        assert (dataset.name, dataset.title) == (name, mini.cifar.title)
        assert (dataset.mean, dataset.std) == (mini.cifar.mean, mini.cifar.std)
        (root / place / file).unlink(missing_ok=True)
    assert {path.parent.name for path in root.rglob("*") if path.is_file()} == {"3.0.2"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_folder(name, file_format, shards, root, prepared, monkeypatch):
    mini = use_mini(name, monkeypatch)
    place_folder(prepared[name], root, file_format, shards)
    assert_holds(recipe.data.load(name, str(root), download=False), mini.arrays)


def test_folder_comes_before_an_archive(mini, root, prepared):
    place_folder(prepared["cifar10"], root, "array_record")
    (root / BINARY).write_bytes(b"not looked at")
    assert_holds(recipe.data.load("cifar10", str(root)), mini.arrays)


def test_binary_archive_comes_before_the_python_one(mini, root):
    (root / BINARY).write_bytes(mini.files[BINARY])
    (root / PYTHON).write_bytes(b"not looked at")
    assert_holds(recipe.data.load("cifar10", str(root)), mini.arrays)


def test_folder_of_an_old_version(mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "tfrecord", shards=2)

    def age(info: dict[str, Any]) -> None:
        del info["fileFormat"], info["moduleName"]
        for split in info["splits"]:
            del split["filepathTemplate"]

    edit_info(folder, age)
    assert_holds(recipe.data.load("cifar10", str(root)), mini.arrays)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_without_ids_the_order_of_the_file_is_kept(file_format, mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, file_format)
    (path,) = folder.glob("*-train.*")
    examples = [tf_example_pb2.Example.FromString(record).features.feature for record in read_records(path)]
    order = [int(example["id"].bytes_list.value[0].split(b"_")[1]) for example in examples]
    assert order != sorted(order), "the folder is not shuffled, so this test would show nothing"
    for i in range(TRAIN):
        edit_example(path, lambda feature: feature.pop("id"), i)
    dataset = recipe.data.load("cifar10", str(root))
    np.testing.assert_array_equal(dataset.train_images, mini.arrays.train_images[order])
    np.testing.assert_array_equal(dataset.train_labels, mini.arrays.train_labels[order])


def test_ids_are_sorted_as_numbers(mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "tfrecord")

    def lengthen(feature: Any) -> None:  # as text, 'train_100002' comes before 'train_20000'
        number = 100_000 if feature["label"].int64_list.value[0] % 2 else 20_000
        ((prefix, i),) = [feature["id"].bytes_list.value[0].split(b"_")]
        feature["id"].bytes_list.value[0] = prefix + b"_%d" % (int(i) + number)

    (path,) = folder.glob("*-train.*")
    for i in range(TRAIN):
        edit_example(path, lengthen, i)
    order = np.argsort(mini.arrays.train_labels % 2, kind="stable")
    dataset = recipe.data.load("cifar10", str(root))
    np.testing.assert_array_equal(dataset.train_labels, mini.arrays.train_labels[order])


# Which folder.


def test_newest_filled_version(mini, root, prepared):
    newest = place_folder(prepared["cifar10"], root, "array_record").rename(root / "cifar10" / "3.0.10")
    edit_info(newest, lambda info: info.update(version="3.0.10"))
    place_folder(prepared["cifar10"], root, "array_record")
    (root / "cifar10" / "4.0.0").mkdir()
    (root / "cifar10" / "4.0.1").mkdir()
    (root / "cifar10" / "4.0.1" / "incomplete.ABCDEF").write_bytes(b"")
    (root / "cifar10" / "incomplete.ABCDEF_9.9.9").mkdir()
    dataset = recipe.data.load("cifar10", str(root))
    assert dataset.source.endswith("/cifar10/3.0.10")


@pytest.mark.parametrize("leftover", ["3.0.2", "3.0.2/incomplete.ABCDEF", "incomplete.ABCDEF_3.0.2/shard"])
def test_leftovers_are_not_a_prepared_folder(leftover, mini, root):
    (root / "cifar10" / leftover).mkdir(parents=True)
    with pytest.raises(DatasetUnavailable):
        recipe.data.load("cifar10", str(root), download=False)
    (root / BINARY).write_bytes(mini.files[BINARY])
    dataset = recipe.data.load("cifar10", str(root), download=False)
    assert_holds(dataset, mini.arrays)
    assert dataset.source == f"TFDS folder {root}/cifar10/3.0.2"


def test_data_folder(mini, root, prepared, tmp_path, monkeypatch):
    def source(directory: str = "") -> str:
        return recipe.data.load("cifar10", directory, download=False).source

    with pytest.raises(UserError, match=r"^data folder ~/nowhere does not exist; "):
        source("~/nowhere")
    home = tmp_path / "home" / "tensorflow_datasets"
    with pytest.raises(DatasetUnavailable, match="is not in ~/tensorflow_datasets "):
        source()
    place_folder(prepared["cifar10"], home, "array_record")
    assert source() == "TFDS folder ~/tensorflow_datasets/cifar10/3.0.2"
    place_folder(prepared["cifar10"], root, "array_record")
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert source() == f"TFDS folder {root}/cifar10/3.0.2"
    assert source("~/tensorflow_datasets") == "TFDS folder ~/tensorflow_datasets/cifar10/3.0.2"
    monkeypatch.setenv("TFDS_DATA_DIR", "~/tensorflow_datasets")
    assert source() == "TFDS folder ~/tensorflow_datasets/cifar10/3.0.2"


@pytest.mark.parametrize("size", [TRAIN - 1, TRAIN + 1, 50_000])
def test_part_of_a_dataset_is_refused(size, mini, root, prepared, monkeypatch):
    """TensorFlow Datasets can prepare a part as well."""
    folder = place_folder(prepared["cifar10"], root, "array_record")
    monkeypatch.setitem(facts.CIFAR, "cifar10", dataclasses.replace(mini.cifar, train_size=size))
    with pytest.raises(UserError) as caught:
        recipe.data.load("cifar10", str(root))
    assert str(caught.value) == (
        f"{folder} is not CIFAR-10: it holds 20 + 10 images instead of {size:,} + 10; "
        "restore it, or delete it to have it made anew"
    )


# A damaged folder.


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000] if ".tfrecord" in path.name else path.read_bytes()[:70_000])


def png(size: tuple[int, int], mode: str) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def set_image(content: bytes) -> Callable[[Path], None]:
    def change(feature: Any) -> None:
        feature["image"].bytes_list.value[0] = content

    return lambda path: edit_example(path, change)


def set_id(content: bytes) -> Callable[[Path], None]:
    def change(feature: Any) -> None:
        feature["id"].bytes_list.value[0] = content

    return lambda path: edit_example(path, change)


def set_label(label: int) -> Callable[[Path], None]:
    def change(feature: Any) -> None:
        feature["label"].int64_list.value[0] = label

    return lambda path: edit_example(path, change)


SHARD_DAMAGES = {
    "missing": (Path.unlink, "is missing"),
    "empty": (lambda path: path.write_bytes(b""), ""),
    "truncated": (truncate, "cannot be read"),
    "flipped header": (flip(70), "cannot be read"),
    "flipped data": (flip(10_000), "cannot be read"),
    "one record less": (
        lambda path: write_records(path, read_records(path)[:-1]),
        f"has {TRAIN - 1} examples instead of {TRAIN}",
    ),
    "no example": (
        lambda path: write_records(path, [*read_records(path)[:-1], b"\xff"]),
        f"has an example ({TRAIN - 1}) that cannot be decoded",
    ),
    "no image": (
        lambda path: edit_example(path, lambda feature: feature.pop("image")),
        "has an example (3) that cannot be decoded",
    ),
    "no PNG": (set_image(b"GIF89a"), "has an example (3) that cannot be decoded"),
    "cut PNG": (set_image(png((32, 32), "RGB")[:50]), "has an example (3) that cannot be decoded"),
    "28×28": (set_image(png((28, 28), "RGB")), "an image of mode RGB and size (28, 28)"),
    "grey": (set_image(png((32, 32), "L")), "an image of mode L and size (32, 32)"),
    "label too large": (set_label(10), "has the label 10 where there are 10 classes"),
    "label negative": (set_label(-1), "has the label -1 where there are 10 classes"),
    "label enormous": (set_label(2**40), "has the label 1099511627776 where there are 10 classes"),
    "id enormous": (
        set_id(b"train_99999999999999999999"),
        "has an example (3) that cannot be decoded",
    ),
    "enormous picture": (set_image(png((30_000, 1), "1")), "an image of mode 1 and size (30000, 1)"),
}


def set_lengths(lengths: Any) -> Callable[[Path], None]:
    return lambda folder: edit_info(folder, lambda info: info["splits"][0].update(shardLengths=lengths))


DESCRIPTION_DAMAGES = {
    "no info": ("dataset_info.json", Path.unlink, "is missing"),
    "cut info": ("dataset_info.json", lambda path: path.write_text("{"), "it is no JSON"),
    "binary info": ("dataset_info.json", lambda path: path.write_bytes(b"\xff\x00"), "it is not UTF-8"),
    "foreign info": ("", lambda path: (path / "dataset_info.json").write_text("[1]"), "cannot be read by"),
    "no test split": (
        "dataset_info.json",
        lambda path: edit_info(path.parent, lambda info: info["splits"].pop()),
        "has no split 'test'",
    ),
    "no files": (
        "dataset_info.json",
        lambda path: edit_info(path.parent, lambda info: info["splits"][0].update(shardLengths=[])),
        "lists no files of the split",
    ),
    "no features": ("features.json", Path.unlink, "is missing"),
    "cut features": ("features.json", lambda path: path.write_text('{"a": '), "it is no JSON"),
    "no class names": ("label.labels.txt", Path.unlink, "is missing"),
    "cut class names": (
        "label.labels.txt",
        lambda path: path.write_text("cat\n"),
        "has 1 class names instead of 10",
    ),
    "deep info": ("dataset_info.json", lambda path: path.write_text("[" * 100_000), "within each other"),
    "deep features": ("features.json", lambda path: path.write_text('{"a":' * 100_000), "within each other"),
    "long number": ("dataset_info.json", lambda path: path.write_text("9" * 5_000), "too many digits"),
    **{
        f"lengths {lengths}": ("", set_lengths(lengths), "cannot be read by TensorFlow Datasets")
        for lengths in ([1.5], ["x"], [None], [2**70], "20", [[20]], {"a": 1})
    },
}


def assert_damage_is_told(folder: Path, path: Path, reason: str, mini: Mini, root: Path) -> None:
    """The right file is named, nothing else is used instead, and nothing is left behind."""
    (root / BINARY).write_bytes(mini.files[BINARY])
    before = files_in(root)
    with pytest.raises(UserError) as caught:
        recipe.data.load("cifar10", str(root))
    message = str(caught.value)
    assert not isinstance(caught.value, DatasetUnavailable)
    assert message.startswith(f"{path} ")
    assert reason in message
    assert message.index(";") - len(str(path)) <= 121
    assert message.endswith(
        f"; the folder {folder} is damaged: restore it, or delete it to have it made anew"
    )
    assert "\n" not in message
    assert files_in(root) == before
    assert not files_in(Path(os.environ["XDG_CACHE_HOME"]))


@pytest.mark.parametrize("damage", SHARD_DAMAGES)
@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_damaged_shard(file_format, damage, mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, file_format)
    (path,) = folder.glob("*-train.*")
    change, reason = SHARD_DAMAGES[damage]
    change(path)
    assert_damage_is_told(folder, path, reason, mini, root)


@pytest.mark.parametrize("damage", DESCRIPTION_DAMAGES)
def test_damaged_description(damage, mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "array_record")
    file, change, reason = DESCRIPTION_DAMAGES[damage]
    change(folder / file)
    assert_damage_is_told(folder, folder / file, reason, mini, root)


@pytest.mark.parametrize("length", [-1, 0, 10**6, 2**40, 2**63 - 1])
def test_a_length_is_believed_only_as_far_as_the_file_goes(length, mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "tfrecord")
    set_lengths([str(length)])(folder)
    (path,) = folder.glob("*-train.*")
    assert_damage_is_told(folder, path, f"has {TRAIN} examples instead of {length}", mini, root)


LEGACY = {"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict"}
STRANGER = {"type": "a_stranger.Feature", "content": {}}


@pytest.mark.parametrize(
    "features",
    [
        {"pythonClassName": "a_stranger.Feature"},
        {"python_class_name": "a_stranger.Feature"},
        STRANGER,
        {**LEGACY, "content": {"image": STRANGER}},
        {**LEGACY, "content": {"list": [[STRANGER]]}},
        {**LEGACY, "proto_cls": "x", "content": json.dumps({"a": {"pythonClassName": "a_stranger.x"}})},
        {**LEGACY, "content": json.dumps({"content": json.dumps({"python_class_name": "a_stranger.x"})})},
        {"featuresDict": {"features": {"image": {"pythonClassName": "a_stranger.__main__.x"}}}},
        {"featuresDict": {"features": {"a": {"sequence": {"feature": {"pythonClassName": "a_stranger.x"}}}}}},
    ],
)
def test_no_module_that_a_folder_names_is_imported(features, mini, root, prepared, tmp_path, monkeypatch):
    """TensorFlow Datasets would run it."""
    (tmp_path / "a_stranger").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "a_stranger" / f"{name}.py").write_text(
            f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()"
        )
    monkeypatch.syspath_prepend(tmp_path)
    folder = place_folder(prepared["cifar10"], root, "array_record")
    whole = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**whole, **features}))
    assert_damage_is_told(folder, folder / "features.json", "was not imported): 'a_stranger", mini, root)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_any_flipped_bit_is_found_or_does_no_harm(file_format, root, prepared):
    folder = place_folder(prepared["cifar10"], root, file_format)
    (path,) = folder.glob("*-test.*")
    sound = path.read_bytes()
    found = 0
    for position in np.random.default_rng(0).integers(0, 20_000, 30):  # array_record pads to 64 KiB
        flip(position)(path)
        try:
            arrays = tfds_folder.read(folder)
        except UserError:
            found += 1
        else:
            np.testing.assert_array_equal(arrays.test_images, MINI["cifar10"].arrays.test_images)
            np.testing.assert_array_equal(arrays.test_labels, MINI["cifar10"].arrays.test_labels)
        path.write_bytes(sound)
    assert found > 20


def test_damage_after_a_good_start_is_found(mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "array_record")
    recipe.data.load("cifar10", str(root))
    (path,) = folder.glob("*-test.*")
    path.unlink()
    with pytest.raises(UserError, match=r"-test\.array_record-00000-of-00001 is missing"):
        recipe.data.load("cifar10", str(root))


def test_other_formats_are_refused(mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "array_record")
    for path in folder.glob("*.array_record-*"):
        path.rename(folder / path.name.replace("array_record", "parquet"))
    edit_info(folder, lambda info: info.update(fileFormat="parquet"))
    with pytest.raises(UserError, match="is a parquet file; only array_record and tfrecord can be read"):
        recipe.data.load("cifar10", str(root))


def test_unreadable_data_folder(mini, root, monkeypatch):
    def denied(path: Path, name: str) -> None:
        raise PermissionError(13, "Permission denied", str(path / name))

    monkeypatch.setattr(tfds_folder, "find", denied)
    with pytest.raises(UserError, match=f"^cannot read CIFAR-10: .*Permission denied: '{root}/cifar10'$"):
        recipe.data.load("cifar10", str(root))


# A damaged archive.


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
@pytest.mark.parametrize("file", [BINARY, PYTHON])
def test_damaged_archive(file, damage, mini, root):
    content = bytearray(mini.files[file])
    if damage == "truncated":
        del content[-100:]
    else:
        content[len(content) // 2] ^= 1
    (root / file).write_bytes(content)
    with pytest.raises(UserError) as caught:
        recipe.data.load("cifar10", str(root))
    assert str(caught.value) == (
        f"{root / file} ({len(content):,} bytes; {len(mini.files[file]):,} expected) is truncated or "
        "damaged; delete it and download it again"
    )
    assert files_in(root) == {file: bytes(content)}


def test_pickles_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "evil"),)

    archive = MINI["cifar10"].cifar.archives[1]
    members = dict.fromkeys([*archive.train, *archive.test], pickle.dumps({"data": Evil(), "labels": []}, 2))
    path = tmp_path / archive.file
    path.write_bytes(tar_gz({f"{archive.folder}/{name}": content for name, content in members.items()}))
    with pytest.raises(UserError, match="mkdir has no place in a CIFAR archive"):
        archive.read(path)
    assert not (tmp_path / "evil").exists()


class Enormous:
    """An array that a pickle of a few bytes asks NumPy to make."""

    def __reduce__(self) -> Any:
        return np.ndarray, ((10**11,), np.dtype("u1"))


def nested(levels: int) -> Any:
    """Lists of ten that are all the same one, 10**levels numbers in 100 bytes a level."""
    value: Any = 1
    for _ in range(levels):
        value = [value] * 10
    return value


PAST_THE_CHECKSUM: dict[str, Callable[[Archive], bytes]] = {
    "no tar": lambda archive: gzip.compress(b"no tar file"),
    "no gzip": lambda archive: b"neither",
    "cut": lambda archive: tar_gz({f"{archive.folder}/{name}": b"x" for name in archive.members})[:-20],
    "nothing in it": lambda archive: tar_gz({"other/file": b""}),
    "a file is missing": lambda archive: tar_gz(
        {f"{archive.folder}/{name}": b"x" for name in archive.members[1:]}
    ),
    "short files": lambda archive: of_content(archive, b"x"),
    "an enormous array": lambda archive: of_pickle(archive, {"data": Enormous(), "labels": []}),
    "labels without end": lambda archive: of_pickle(archive, {"data": b"", "labels": nested(30)}),
    "many labels": lambda archive: of_pickle(
        archive, {"data": np.zeros((1, 3072), np.uint8), "labels": nested(3)}
    ),
    "an enormous number of an object": lambda archive: of_content(archive, b"]r\xff\xff\xff\x7f."),
}


def of_pickle(archive: Archive, content: Any) -> bytes:
    return of_content(archive, pickle.dumps(content, 2))


def of_content(archive: Archive, content: bytes) -> bytes:
    return tar_gz({f"{archive.folder}/{name}": content for name in archive.members})


@pytest.mark.parametrize("content", PAST_THE_CHECKSUM)
@pytest.mark.parametrize("kind", [0, 1], ids=["binary", "python"])
def test_what_only_has_the_checksum_of_an_archive_is_one_line(content, kind, tmp_path):
    archive = MINI["cifar10"].cifar.archives[kind]
    path = tmp_path / archive.file
    path.write_bytes(PAST_THE_CHECKSUM[content](archive))
    with pytest.raises(
        UserError, match=rf"^{path} can't be read \([^\n]*\); delete it and download it again$"
    ):
        archive.read(path)


# The folder that is made of an archive.


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_made_folder_is_genuine(name, prepared):
    mini, data_dir = MINI[name], prepared[name].parents[1]
    builder = tfds.builder(name, data_dir=data_dir)
    assert builder.is_prepared()
    assert builder.data_dir == str(prepared[name])
    assert builder.info.features["label"].names == list(mini.arrays.class_names)
    assert json.loads((prepared[name] / "dataset_info.json").read_text())["moduleName"] == (
        "tensorflow_datasets.image_classification.cifar"
    )
    for split in ("train", "test"):
        images, labels = getattr(mini.arrays, f"{split}_images"), getattr(mini.arrays, f"{split}_labels")
        source = tfds.data_source(name, split=split, data_dir=data_dir)
        examples = sorted(source, key=lambda example: example["id"])
        assert [example["id"] for example in examples] == [
            f"{split}_{i:05d}".encode() for i in range(len(images))
        ]
        np.testing.assert_array_equal([example["image"] for example in examples], images)
        np.testing.assert_array_equal([example["label"] for example in examples], labels)
        if name == "cifar100":
            np.testing.assert_array_equal([e["coarse_label"] for e in examples], mini.coarse[split])
    if name == "cifar100":
        assert builder.info.features["coarse_label"].names == [f"coarse{i}" for i in range(20)]


def test_making_a_folder_is_silent_and_leaves_only_the_folder(mini, root, capfd, caplog):
    caplog.set_level(logging.INFO)
    (root / BINARY).write_bytes(mini.files[BINARY])
    recipe.data.load("cifar10", str(root))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert sorted(path.name for path in root.iterdir()) == [BINARY, "cifar10"]
    assert [path.name for path in (root / "cifar10").iterdir()] == ["3.0.2"]


def test_folder_that_cannot_be_written(mini, root, caplog, monkeypatch):
    (root / "cifar10").write_text("a file where the folder should be")  # works for root too
    (root / PYTHON).write_bytes(mini.files[PYTHON])
    before = files_in(root)
    for _ in range(2):
        caplog.clear()
        dataset = recipe.data.load("cifar10", str(root))
        assert_holds(dataset, mini.arrays)
        assert dataset.source == f"archive {root / PYTHON}"
        (warning,) = caplog.messages
        assert warning.startswith(f"cannot write a TFDS folder in {root} (")
        monkeypatch.setattr(PythonArchive, "read", None)  # the second time, the arrays are in the cache
    assert files_in(root) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("No space left")])
def test_failure_in_the_middle_of_writing(error, mini, root, monkeypatch, caplog):
    def fail(image: np.ndarray) -> bytes:
        raise error

    monkeypatch.setattr(prepare, "_png", fail)
    (root / BINARY).write_bytes(mini.files[BINARY])
    assert_holds(recipe.data.load("cifar10", str(root)), mini.arrays)
    assert "No space left" in caplog.text
    assert files_in(root) == {BINARY: mini.files[BINARY]}
    assert list((root / "cifar10").iterdir()) == []


def test_another_process_makes_the_same_folder(mini, root, prepared, monkeypatch, caplog):
    png = prepare._png

    def overtaken(image: np.ndarray) -> bytes:
        if not (root / "cifar10" / "3.0.2").exists():
            place_folder(prepared["cifar10"], root, "array_record")
        return png(image)

    monkeypatch.setattr(prepare, "_png", overtaken)
    (root / BINARY).write_bytes(mini.files[BINARY])
    dataset = recipe.data.load("cifar10", str(root))
    assert_holds(dataset, mini.arrays)
    assert dataset.source == f"TFDS folder {root}/cifar10/3.0.2"
    assert [path.name for path in (root / "cifar10").iterdir()] == ["3.0.2"]
    assert not caplog.records


# No source at all. (test_download.py has the ways in which a download fails.)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_unavailable(name, root, monkeypatch):
    mini = use_mini(name, monkeypatch)
    files = " or ".join(archive.file for archive in mini.cifar.archives)
    nowhere = (
        f"{mini.cifar.title} is not in {root} (no prepared folder {name}/<version>, no {files}, "
        "packed or unpacked)"
    )
    with pytest.raises(DatasetUnavailable) as caught:
        recipe.data.load(name, str(root), download=False)
    assert str(caught.value) == f"{nowhere} and was not downloaded: downloading is switched off"
    with pytest.raises(DatasetUnavailable) as caught:
        recipe.data.load(name, str(root))
    assert str(caught.value).startswith(
        f"{nowhere} and was not downloaded: the connection to 127.0.0.1 failed: "
    )
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_how_to_get(name):
    text = recipe.data.how_to_get(name)
    for archive in facts.CIFAR[name].archives:
        assert archive.file in text
    for part in ("$TFDS_DATA_DIR", "--config.data.dir=", facts.CIFAR[name].archives[0].url, f"{name}/"):
        assert part in text


def test_unknown_name():
    with pytest.raises(UserError, match=r"^unknown dataset 'cifar11'; did you mean 'cifar100?'\?$"):
        recipe.data.load("cifar11")


# Decoding once. (test_cache.py has the cache itself.)


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_second_start_decodes_nothing(file_format, mini, root, prepared, monkeypatch):
    place_folder(prepared["cifar10"], root, file_format)
    recipe.data.load("cifar10", str(root))
    monkeypatch.setattr(tfds_folder, "read", None)
    assert_holds(recipe.data.load("cifar10", str(root)), mini.arrays)


def test_changed_folder_is_read_again(mini, root, prepared):
    folder = place_folder(prepared["cifar10"], root, "tfrecord")
    recipe.data.load("cifar10", str(root))
    (path,) = folder.glob("*-test.*")
    for i in range(TEST):
        edit_example(path, lambda feature: feature["label"].int64_list.value.__setitem__(0, 7), i)
    assert recipe.data.load("cifar10", str(root)).test_labels.tolist() == [7] * TEST


# The real dataset.


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return recipe.data.load("cifar10", REAL, download=False)


@needs_real_data
def test_real_dataset(real):
    for images, labels, n in (
        (real.train_images, real.train_labels, 5000),
        (real.test_images, real.test_labels, 1000),
    ):
        assert images.shape == (10 * n, 32, 32, 3)
        assert images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [n] * 10
    assert real.class_names == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )


@needs_real_data
def test_the_digest_is_that_of_the_genuine_dataset(real):
    """It was computed from the genuine TFDS folder, whose records carry checksums."""
    assert real.digest == facts.CIFAR["cifar10"].digest
    assert real.class_names == facts.CIFAR["cifar10"].class_names


@needs_real_data
def test_published_constants(real):
    values = np.arange(256) / 255
    for channel in range(3):
        counts = np.bincount(real.train_images[..., channel].ravel(), minlength=256)
        mean = np.average(values, weights=counts)
        std = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        assert real.mean[channel] == pytest.approx(mean, abs=5e-9)
        assert real.std[channel] == pytest.approx(std, abs=5e-9)


@needs_real_data
def test_made_folder_is_shuffled_as_the_real_one(prepared):
    """TFDS orders examples by a hash of their number, so the small folder shows the real one's order."""
    real = max((Path(REAL) / "cifar10").iterdir())

    def ids(folder: Path) -> list[int]:
        (path,) = folder.glob("*-test.array_record-*")
        examples = [tf_example_pb2.Example.FromString(record) for record in read_records(path)]
        texts = [example.features.feature["id"].bytes_list.value[0] for example in examples]
        return [int(text.removeprefix(b"test_")) for text in texts]

    assert ids(prepared["cifar10"]) == [i for i in ids(real) if i < TEST]
    assert (prepared["cifar10"] / "features.json").read_bytes() == (real / "features.json").read_bytes()
