"""The official CIFAR archives, in their binary and their Python version.

The folders that TensorFlow Datasets prepares are made from the binary version. Both versions hold the
same images in the same order.
"""

from __future__ import annotations

import abc
import dataclasses
import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recipe.data.dataset import Arrays
from recipe.system import pickles
from recipe.system.errors import UserError, first_line

LARGEST = 200_000_000  # bytes of a file in an archive; the training images of CIFAR-100 have 155 million


@dataclasses.dataclass(frozen=True)
class Split:
    """The training or the test examples of an archive."""

    images: np.ndarray  # uint8 (N, 32, 32, 3)
    labels: Mapping[str, np.ndarray]  # int32 (N,); keys as in TensorFlow Datasets

    @classmethod
    def concatenate(cls, parts: list[Split]) -> Split:
        """Join the files of a split."""
        return cls(
            np.concatenate([part.images for part in parts]),
            {key: np.concatenate([part.labels[key] for part in parts]) for key in parts[0].labels},
        )


@dataclasses.dataclass(frozen=True)
class Contents:
    """Everything in an archive. CIFAR-100 has a second kind of label, 'coarse_label'."""

    train: Split
    test: Split
    names: Mapping[str, tuple[str, ...]]  # of the classes, for each kind of label

    def arrays(self) -> Arrays:
        """The images, with the labels that the program trains on."""
        return Arrays(
            train_images=self.train.images,
            train_labels=self.train.labels["label"],
            test_images=self.test.images,
            test_labels=self.test.labels["label"],
            class_names=self.names["label"],
        )


@dataclasses.dataclass(frozen=True)
class Archive(abc.ABC):
    """An official .tar.gz file."""

    url: str
    size: int  # bytes
    algorithm: str  # of the checksum, as hashlib calls it
    digest: str
    folder: str  # inside the archive
    train: tuple[str, ...]  # files in the folder
    test: tuple[str, ...]
    md5: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)  # of files, if published

    @property
    def file(self) -> str:
        """The archive's file name."""
        return self.url.rpartition("/")[2]

    def matches(self, path: Path) -> bool:
        """Whether the file at `path` is this archive, bit for bit."""
        if path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, self.algorithm).hexdigest() == self.digest

    def read(self, path: Path) -> Contents:
        """Return what the archive at `path` holds. The caller has checked that it `matches`.

        Raises:
          UserError: if it can't be read, or does not hold what it should.
        """
        try:
            with tarfile.open(path, "r:gz") as tar:
                # A .tar.gz can only be read forwards: one pass, instead of unpacking it for each file.
                files = {
                    name: _content(tar, member)
                    for member in tar
                    if member.isfile()
                    and (name := member.name.removeprefix(f"{self.folder}/")) in self.members
                }
            return self.contents(files)
        except Exception as error:  # pickle, zlib and tarfile raise many types
            if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                raise
            raise UserError(
                f"{path} can't be read ({first_line(error)}); delete it and download it again"
            ) from error

    def contents(self, files: Mapping[str, bytes], class_names: tuple[str, ...] = ()) -> Contents:
        """Return what the unpacked files hold; `class_names` if those that hold such are missing."""
        named = all(name in files for name in self.name_files)
        return Contents(
            train=Split.concatenate([self._split(files[name]) for name in self.train]),
            test=Split.concatenate([self._split(files[name]) for name in self.test]),
            names=self._names(files) if named or not class_names else {"label": class_names},
        )

    @property
    def members(self) -> tuple[str, ...]:
        """The files in the folder that are read."""
        return (*self.train, *self.test, *self.name_files)

    @property
    @abc.abstractmethod
    def name_files(self) -> tuple[str, ...]:
        """The files in the folder that hold class names."""

    @abc.abstractmethod
    def _split(self, content: bytes) -> Split: ...

    @abc.abstractmethod
    def _names(self, files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]: ...


@dataclasses.dataclass(frozen=True)
class BinaryArchive(Archive):
    """Records of one byte for each kind of label and 3,072 bytes for the image."""

    names: Mapping[str, str]  # kind of label, in the order of the bytes: file with the class names

    @property
    def name_files(self) -> tuple[str, ...]:
        """See `Archive`."""
        return tuple(self.names.values())

    def _split(self, content: bytes) -> Split:
        records = np.frombuffer(content, np.uint8).reshape(-1, len(self.names) + 3072)
        labels = {key: records[:, i].astype(np.int32) for i, key in enumerate(self.names)}
        return Split(_images(records[:, len(self.names) :]), labels)

    def _names(self, files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
        return {key: tuple(files[name].decode().split()) for key, name in self.names.items()}


@dataclasses.dataclass(frozen=True)
class PythonArchive(Archive):
    """Pickled dictionaries, written by Python 2."""

    meta: str  # the file with the class names
    labels: Mapping[str, str]  # kind of label: key in a split's dictionary
    names: Mapping[str, str]  # kind of label: key in the meta file's dictionary

    @property
    def name_files(self) -> tuple[str, ...]:
        """See `Archive`."""
        return (self.meta,)

    def _split(self, content: bytes) -> Split:
        batch = _unpickle(content)
        labels = {key: _numbers(batch[name]) for key, name in self.labels.items()}
        images = batch["data"]
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.nbytes > len(content):
            raise ValueError("the images are no bytes of the file")  # but such as NumPy would make room for
        return Split(_images(images), labels)

    def _names(self, files: Mapping[str, bytes]) -> dict[str, tuple[str, ...]]:
        meta = _unpickle(files[self.meta])
        return {key: tuple(map(_text, meta[name])) for key, name in self.names.items()}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > LARGEST:
        raise ValueError(f"{member.name} has {member.size:,} bytes")
    file = tar.extractfile(member)
    assert file is not None  # it is a regular file
    return file.read()


def _images(rows: np.ndarray) -> np.ndarray:
    """(N, 3072) rows of channels, then height, then width, as (N, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain containers and NumPy arrays. Anything else in a pickle could run any code."""

    # as Python 2 wrote the official files, and as Python 3 writes copies of them
    _ALLOWED: ClassVar[dict[str, Any]] = {
        "multiarray._reconstruct": np.empty(0).__reduce__()[0],
        "multiarray.scalar": np.int64(0).__reduce__()[0],
        "numeric._frombuffer": np.empty(0).__reduce_ex__(5)[0],
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
        "_codecs.encode": lambda text, _: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        package = module.removeprefix("numpy.core.").removeprefix("numpy._core.")
        try:
            return self._ALLOWED[f"{package}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a CIFAR archive") from None


def _numbers(labels: Any) -> np.ndarray:
    """Labels, of a list or an array, as int32 (N,)."""
    if not isinstance(labels, np.ndarray) and not (
        isinstance(labels, list) and all(isinstance(label, int) for label in labels)
    ):
        raise ValueError("the labels are no whole numbers")
    return np.array(labels, np.int32).reshape(-1)


def _unpickle(content: bytes) -> dict[str, Any]:
    pickles.survey(io.BytesIO(content))
    values = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return {_text(key): value for key, value in values.items()}


def _text(text: str | bytes) -> str:
    """A key or a name: bytes where Python 3 has pickled again what Python 2 wrote."""
    if not isinstance(text, str | bytes):
        raise ValueError(f"a name is a {type(text).__name__}")
    return text.decode() if isinstance(text, bytes) else text
