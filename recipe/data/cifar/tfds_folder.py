"""Reading a folder that TensorFlow Datasets has prepared, without TensorFlow."""

from __future__ import annotations

import io
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recipe.data.cifar import riegeli, tfrecord
from recipe.data.cifar.quiet import quiet
from recipe.data.dataset import Arrays
from recipe.system import json_values, plain
from recipe.system.errors import UserError
from recipe.system.terminal import printable, shown

# where features.json names the classes that TensorFlow Datasets imports: as it does now, and as it once did
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")


def find(root: Path, name: str) -> tuple[Path, Path] | None:
    """Return the newest version's folder of the dataset `name`, and the data folder that holds it, or None.

    The data folder is `root`. Where `root` is the dataset's folder (…/cifar10) or a version in it
    (…/cifar10/3.0.2), it is the folder that holds that. A version is passed over if it holds nothing, or only
    what a killed preparation left. With anything else in it, it counts even if it is damaged: `read` will say
    so.
    """
    if version := _newest(root / name):
        return version, root
    here = root.resolve()
    if here.name == name and (version := _newest(root)):
        return version, _above(root, 1)
    if here.parent.name == name and _is_version(here) and _is_filled(root):
        return root, _above(root, 2)
    return None


def read(folder: Path) -> Arrays:
    """Return the arrays of a prepared CIFAR folder (…/cifar10/3.0.2), in order of the examples' ids.

    Shards may be array_record or tfrecord files; both carry checksums, and all are verified.

    Raises:
      UserError: the folder is damaged or incomplete.
    """
    info, class_names = _read_description(folder)
    splits = {}
    for split in ("train", "test"):
        if split not in info.splits:
            raise _damaged(folder / "dataset_info.json", f"has no split {split!r}")
        if not info.splits[split].shard_lengths:
            raise _damaged(folder / "dataset_info.json", f"lists no files of the split {split!r}")
        splits[split] = _read_split(info.splits[split], str(info.file_format.value), len(class_names))
    return Arrays(*splits["train"], *splits["test"], class_names)


def _above(path: Path, levels: int) -> Path:
    """The folder so many levels above, relative where `path` is, unless that has links in it."""
    above = path.resolve().parents[levels - 1]
    written = Path(os.path.normpath(path.joinpath(*[".."] * levels)))
    return written if written.resolve() == above else above


def _newest(dataset: Path) -> Path | None:
    if not dataset.is_dir():
        return None
    versions = [path for path in dataset.iterdir() if _is_version(path) and _is_filled(path)]
    return max(versions, key=lambda path: [int(part) for part in path.name.split(".")], default=None)


def _is_version(path: Path) -> bool:
    return re.fullmatch(r"\d+\.\d+\.\d+", path.name) is not None


def _is_filled(path: Path) -> bool:
    return path.is_dir() and not all(child.name.startswith("incomplete.") for child in path.iterdir())


def _read_description(folder: Path) -> tuple[Any, tuple[str, ...]]:
    """The folder's `tfds.core.DatasetInfo`, and the class names."""
    import tensorflow_datasets as tfds

    for name in ("dataset_info.json", "features.json", "label.labels.txt"):
        if not (folder / name).is_file():
            raise _damaged(folder / name, "is missing")
    content = {}
    for name in ("dataset_info.json", "features.json"):
        try:
            content[name] = json_values.read(folder / name)
        except ValueError as error:
            raise _damaged(folder / name, f"can't be read: {error}") from error
    _check_classes(folder / "features.json", content["features.json"])
    try:
        with quiet():
            info = tfds.builder_from_directory(folder).info
        label = info.features["label"]
    except Exception as error:  # what TFDS raises depends on which part of the description is wrong
        raise _damaged(folder, f"cannot be read by TensorFlow Datasets: {error}") from error
    if len(label.names) != label.num_classes:
        raise _damaged(
            folder / "label.labels.txt", f"has {len(label.names)} class names instead of {label.num_classes}"
        )
    return info, tuple(label.names)


def _check_classes(path: Path, content: Any) -> None:
    """Raise a `UserError` if features.json names a class that a dataset of pictures does not have.

    TensorFlow Datasets imports whatever module it finds there, which runs it.
    """
    import tensorflow_datasets as tfds

    features = tfds.features
    known = (features.FeaturesDict, features.Image, features.ClassLabel, features.Text, features.Tensor)
    names = [f"{feature.__module__}.{feature.__qualname__}" for feature in known]
    try:
        strange = next((name for name in _class_names(content) if name not in names), None)
    except ValueError as error:
        raise _damaged(path, f"can't be read: {error}") from error
    if strange is not None:
        raise _damaged(
            path, f"has a feature that pictures do not have (its class was not imported): {shown(strange)}"
        )


def _class_names(content: Any) -> Iterator[Any]:
    """All that features.json has where TensorFlow Datasets looks for classes."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in CLASS_KEYS:
                yield value
            elif key == "content" and isinstance(value, str):  # JSON within JSON, once
                yield from _class_names(json_values.parse(value))
            else:
                yield from _class_names(value)
    elif isinstance(content, list):
        for value in content:
            yield from _class_names(value)


def _read_split(split: Any, file_format: str, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a `tfds.core.SplitInfo`, sorted by id."""
    # the description says how many there are, but only the files show it: nothing is made of its number alone
    examples: list[tuple[np.ndarray, int, int]] = []
    for path, length in zip(map(Path, split.filepaths), split.shard_lengths, strict=True):
        records = _read_records(path, file_format)
        if len(records) != length:
            raise _damaged(path, f"has {len(records)} examples instead of {length}")
        for i, record in enumerate(records):
            try:
                examples.append(_decode(record))
            except Exception as error:  # Pillow and protobuf raise nearly anything
                raise _damaged(path, f"has an example ({i}) that cannot be decoded: {error}") from error
            label = examples[-1][1]
            if not 0 <= label < n_classes:
                raise _damaged(path, f"has the label {label} where there are {n_classes} classes")
    if not examples:
        raise _damaged(path, "has no examples")
    images, labels, ids = zip(*examples, strict=True)
    order = np.argsort(np.array(ids, np.int64), kind="stable")
    return np.stack(images)[order], np.array(labels, np.int32)[order]


def _read_records(path: Path, file_format: str) -> list[bytes]:
    if not path.is_file():
        raise _damaged(path, "is missing")
    try:
        plain.check(path)
        if file_format == "array_record":
            from array_record.python.array_record_module import ArrayRecordReader

            riegeli.check(path)
            return ArrayRecordReader(str(path)).read_all()
        if file_format == "tfrecord":
            return tfrecord.read(path)
    except (RuntimeError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    raise UserError(f"{path} is a {file_format} file; only array_record and tfrecord can be read")


def _decode(record: bytes) -> tuple[np.ndarray, int, int]:
    """Image, label and numeric id of a serialised `tf.train.Example`."""
    from tensorflow_datasets.proto import tf_example_pb2

    feature = tf_example_pb2.Example.FromString(record).features.feature
    with Image.open(io.BytesIO(feature["image"].bytes_list.value[0]), formats=("PNG",)) as png:
        if (png.mode, png.size) != (
            "RGB",
            (32, 32),
        ):  # before it is decoded: a small file may be a large image
            raise ValueError(f"an image of mode {png.mode} and size {png.size}")
        image = np.asarray(png)
    # Early versions have no ids. With the same number for all, the stable sort keeps the files' order.
    example_id = feature["id"].bytes_list.value[0].rpartition(b"_")[2] if "id" in feature else 0
    return image, feature["label"].int64_list.value[0], int(np.int64(int(example_id)))


def _damaged(path: Path, reason: str) -> UserError:
    folder = path if path.is_dir() else path.parent
    return UserError(
        f"{path} {textwrap.shorten(printable(reason), 120)}; the folder {folder} is damaged: "
        "restore it, or delete it to have it made anew"
    )
