"""Datasets like the real ones, but of a few dozen images, whose archives are official by their checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from recipe.data.cifar import facts, tfrecord
from recipe.data.cifar.archive import Archive
from recipe.data.dataset import Arrays, Dataset
from recipe.normalisation import statistics

TRAIN, TEST = 20, 10  # images


@dataclasses.dataclass(frozen=True)
class Mini:
    """A dataset like the real one, but small, whose archives are official by their own checksums."""

    cifar: facts.Cifar
    files: dict[str, bytes]  # the archives
    arrays: Arrays
    coarse: dict[str, np.ndarray]  # CIFAR-100 only


def make_mini(name: str) -> Mini:
    rng = np.random.default_rng(0)
    n_classes = {"cifar10": 10, "cifar100": 100}[name]
    sizes = {"train": TRAIN, "test": TEST}
    images = {split: rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for split, n in sizes.items()}
    labels = {split: rng.integers(0, n_classes, n, np.int32) for split, n in sizes.items()}
    coarse = {split: rng.integers(0, 20, n, np.int32) for split, n in sizes.items()}
    names = [f"class{i}" for i in range(n_classes)]

    make_files = {"cifar10": cifar10_files, "cifar100": cifar100_files}[name]
    archives, files = [], {}
    for archive, members in zip(
        facts.CIFAR[name].archives, make_files(images, labels, coarse, names), strict=True
    ):
        content = files[archive.file] = tar_gz(members)
        # Port 9 on this machine is closed: nothing here may reach for the real address.
        url = f"http://127.0.0.1:9/{archive.file}"
        digest = hashlib.new(archive.algorithm, content).hexdigest()
        md5 = {
            name: hashlib.md5(members[f"{archive.folder}/{name}"]).hexdigest()
            for name in archive.members
            if archive.md5
        }
        archives.append(dataclasses.replace(archive, url=url, size=len(content), digest=digest, md5=md5))
    return Mini(
        dataclasses.replace(
            facts.CIFAR[name],
            train_size=TRAIN,
            test_size=TEST,
            mean=statistics(images["train"])[0],
            archives=tuple(archives),
            digest="",  # tests change labels, which it would tell; `sealed` has it
        ),
        files,
        Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(names)),
        coarse,
    )


def cifar10_files(images, labels, coarse, names) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What is in the binary and in the Python archive of CIFAR-10."""
    binary = {"cifar-10-batches-bin/batches.meta.txt": ("\n".join(names) + "\n\n").encode()}
    python = {"cifar-10-batches-py/batches.meta": python2_pickle({"label_names": names})}
    batches = {"test_batch": ("test", slice(None))}
    for i in range(5):
        batches[f"data_batch_{i + 1}"] = ("train", slice(i * TRAIN // 5, (i + 1) * TRAIN // 5))
    for name, (split, part) in batches.items():
        rows, numbers = flat(images[split])[part], labels[split][part]
        binary[f"cifar-10-batches-bin/{name}.bin"] = (
            np.column_stack([numbers, rows]).astype(np.uint8).tobytes()
        )
        python[f"cifar-10-batches-py/{name}"] = python2_pickle(
            {"batch_label": name, "labels": numbers.tolist(), "data": rows}
        )
    return binary, python


def cifar100_files(images, labels, coarse, names) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What is in the binary and in the Python archive of CIFAR-100."""
    coarse_names = [f"coarse{i}" for i in range(20)]
    binary = {
        "cifar-100-binary/fine_label_names.txt": ("\n".join(names) + "\n").encode(),
        "cifar-100-binary/coarse_label_names.txt": ("\n".join(coarse_names) + "\n").encode(),
    }
    meta = {"fine_label_names": names, "coarse_label_names": coarse_names}
    python = {"cifar-100-python/meta": python2_pickle(meta)}
    for split in ("train", "test"):
        rows, fine = flat(images[split]), labels[split]
        records = np.column_stack([coarse[split], fine, rows]).astype(np.uint8)
        binary[f"cifar-100-binary/{split}.bin"] = records.tobytes()
        python[f"cifar-100-python/{split}"] = python2_pickle(
            {"fine_labels": fine.tolist(), "coarse_labels": coarse[split].tolist(), "data": rows}
        )
    return binary, python


def flat(images: np.ndarray) -> np.ndarray:
    """Images as the archives have them: all of red, all of green, all of blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def tar_gz(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def python2_pickle(value: Any) -> bytes:
    """Pickle as Python 2 did: byte strings, and the module names of old NumPy."""

    def string(content: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(content)) + content

    def integer(number: int) -> bytes:
        return b"J" + struct.pack("<i", number)

    def emit(value: Any) -> bytes:
        match value:
            case dict():
                return b"}(" + b"".join(emit(k) + emit(v) for k, v in value.items()) + b"u"
            case list():
                return b"](" + b"".join(map(emit, value)) + b"e"
            case str():
                return string(value.encode("latin1"))
            case int():
                return integer(value)
            case np.ndarray():
                dtype = b"cnumpy\ndtype\n" + string(b"u1") + integer(0) + integer(1) + b"\x87R"
                dtype += b"(" + integer(3) + string(b"|") + b"NNN" + integer(-1) * 2 + integer(0) + b"tb"
                shape = b"(" + b"".join(map(integer, value.shape)) + b"t"
                empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85"
                empty += string(b"b") + b"\x87R"
                return empty + b"(" + integer(1) + shape + dtype + b"\x89" + string(value.tobytes()) + b"tb"
        raise TypeError(type(value))

    return b"\x80\x02" + emit(value) + b"."


MINI = {name: make_mini(name) for name in ("cifar10", "cifar100")}
BINARY, PYTHON = (archive.file for archive in MINI["cifar10"].cifar.archives)


def use_mini(name: str, monkeypatch: pytest.MonkeyPatch) -> Mini:
    monkeypatch.setitem(facts.CIFAR, name, MINI[name].cifar)
    return MINI[name]


def use_sealed(name: str, monkeypatch: pytest.MonkeyPatch) -> Mini:
    """`use_mini`, with the SHA-256 of CIFAR-10's arrays, which are then accepted in every form."""
    mini = use_mini(name, monkeypatch)
    if name == "cifar10":
        sealed = {"digest": mini.arrays.digest, "class_names": mini.arrays.class_names}
        monkeypatch.setitem(facts.CIFAR, name, dataclasses.replace(mini.cifar, **sealed))
    return mini


def unpack(mini: Mini, archive: Archive, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(mini.files[archive.file])) as tar:
        tar.extractall(folder, filter="data")


def place_folder(prepared: Path, root: Path, file_format: str, shards: int = 1) -> Path:
    """Copy a prepared folder to the data folder, in the given format and with so many training shards."""
    folder = root / prepared.parent.name / prepared.name
    shutil.copytree(prepared, folder)
    for split, n in (("train", shards), ("test", 1)):
        (path,) = folder.glob(f"*-{split}.*")
        records = ArrayRecordReader(str(path)).read_all()
        path.unlink()
        parts = [list(part) for part in np.array_split(np.array(records, object), n)]
        for i, part in enumerate(parts):
            name = f"{folder.parent.name}-{split}.{file_format}-{i:05d}-of-{n:05d}"
            write_records(folder / name, part)
        edit_info(
            folder,
            lambda info, split=split, parts=parts: next(
                entry for entry in info["splits"] if entry["name"] == split
            ).update(shardLengths=[str(len(part)) for part in parts]),
        )
    edit_info(folder, lambda info: info.update(fileFormat=file_format))
    return folder


def read_records(path: Path) -> list[bytes]:
    if ".array_record" in path.name:
        return ArrayRecordReader(str(path)).read_all()
    return tfrecord.read(path)


def write_records(path: Path, records: list[bytes]) -> None:
    if ".array_record" in path.name:
        writer = ArrayRecordWriter(str(path), "group_size:1")
    else:
        writer = RecordWriter(path.open("wb"))
    for record in records:
        writer.write(record)
    writer.close()


def edit_info(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def edit_example(path: Path, change: Callable[[Any], Any], index: int = 3) -> None:
    """Change the features of one example in a shard, with valid checksums."""
    records = read_records(path)
    example = tf_example_pb2.Example.FromString(records[index])
    change(example.features.feature)
    records[index] = example.SerializeToString()
    write_records(path, records)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_holds(dataset: Dataset, arrays: Arrays) -> None:
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        got, expected = getattr(dataset, field), getattr(arrays, field)
        np.testing.assert_array_equal(got, expected, err_msg=field)
        assert got.dtype == (np.uint8 if "images" in field else np.int32)
        assert got.flags.c_contiguous
    assert dataset.class_names == arrays.class_names


def flip(position: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return change
