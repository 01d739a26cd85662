"""A folder that one step of a comparison leaves to the next: written as a whole, checked when it is read.

It has `index.json`, with what a person may want to know and every file's checksum, and safetensors files; a
file's metadata says how its arrays belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
from safetensors.numpy import save

from parity.comparison.offline.codec import decode, encode
from recipe.system.errors import UserError
from recipe.system.files import atomic_folder

FORMAT = 1  # changes with every change of what is written
INDEX, SUFFIX = "index.json", ".safetensors"

T = TypeVar("T")


class Writer:
    """Writes the files of a part.

    Args:
      folder: an empty one.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.facts: dict[str, Any] = {}  # go to the index

    def add(self, name: str, value: Any) -> None:
        """Add a fact that holds no arrays."""
        self.facts[name] = encode(value, _no_array)

    def write(self, name: str, value: Any) -> None:
        """Write a value that `codec.encode` takes."""
        arrays: dict[str, np.ndarray] = {}
        names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

        def put(array: np.ndarray) -> str:
            """The same numbers are written once: what leaves a layer enters the next."""
            array = np.asarray(_narrowed(array), order="C")
            key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
            found = names.setdefault(key, str(len(names)))
            arrays[found] = array
            return found

        tree = encode(value, put)
        content = save(arrays, {"tree": json.dumps(tree)})
        (self._folder / f"{name}{SUFFIX}").write_bytes(content)

    def finish(self) -> None:
        """Write the index."""
        files = {path.name: _checksum(path) for path in sorted(self._folder.iterdir())}
        text = json.dumps({"format": FORMAT, **self.facts, "files": files}, indent=1)
        (self._folder / INDEX).write_text(text + "\n", encoding="utf-8")


@contextmanager
def writing(folder: Path, part: str = "") -> Iterator[Writer]:
    """A writer of a folder, or of its part, which appears when all is written and replaces an older one."""
    with atomic_folder(folder) as new:
        (new / part).mkdir(parents=True)
        writer = Writer(new / part)
        yield writer
        writer.finish()


class Part:
    """A part that was written.

    Args:
      folder: where it is.
      missing: what to say if there is none.

    Raises:
      UserError: if there is none, it was written by another version, or it is not as it was written.
    """

    def __init__(self, folder: Path, missing: str):
        self._folder = folder
        path = folder / INDEX
        if not path.is_file():
            raise UserError(missing)
        try:
            self.facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            written, files = self.facts["format"], dict(self.facts["files"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} is damaged: copy it again, or make it again") from error
        if written != FORMAT:
            raise UserError(f"{folder} was written by another version of this program: make it again")
        for name, checksum in files.items():
            file = folder / name
            if not file.is_file():
                raise UserError(f"{folder} is not complete, {name} is missing: copy it again")
            if _checksum(file) != checksum:
                raise UserError(f"{file} is damaged: copy it again, or make it again")

    @property
    def checksum(self) -> str:
        """Of all that is in it."""
        return _checksum(self._folder / INDEX)

    def fact(self, name: str, kind: type[T]) -> T:
        """A fact of a type that was added."""
        return decode(kind, self.facts[name], _no_array)

    def read(self, name: str, kind: type[T]) -> T:
        """A value of a type that was written."""
        with safetensors.safe_open(self._folder / f"{name}{SUFFIX}", framework="np") as file:

            def get(name: str) -> np.ndarray:
                array = file.get_tensor(name)
                return array.astype(np.float64) if array.dtype.kind == "f" else array

            return decode(kind, json.loads(file.metadata()["tree"]), get)


def _narrowed(array: np.ndarray) -> np.ndarray:
    """Floats as float32, if that holds them; they become float64 when they are read."""
    if array.dtype != np.float64:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array, equal_nan=True) else array


def _no_array(_: Any) -> Any:
    raise TypeError("an index holds no arrays")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
