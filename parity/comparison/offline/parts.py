"""A folder that one step of a comparison leaves to the next: written as a whole, checked when it is read.

It has `index.json`, with what a person may want to know, every file's checksum and its own, and safetensors
files; a file's metadata says how its arrays belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
from safetensors.numpy import save

from parity.comparison.offline.codec import decode, encode
from recipe.system import json_values, plain
from recipe.system.errors import UserError
from recipe.system.files import atomic_folder
from recipe.system.terminal import printable

FORMAT = 2  # changes with every change of what is written
INDEX, SUFFIX = "index.json", ".safetensors"
OWN = "sha256"  # in the index: of all else in it
MOST_BYTES, DEEPEST = 100_000_000, 100  # of the JSON in a file: what safetensors takes; inputs may be nested

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
        content = json.loads(json.dumps({"format": FORMAT, **self.facts, "files": files}))
        text = json.dumps({**content, OWN: _digest(content)}, indent=1)
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
            self.facts = _read_index(path)
        except (ValueError, OSError) as error:
            raise _damaged(path) from error
        if self.facts.get("format") != FORMAT:
            raise UserError(f"{folder} was written by another version of this program: make it again")
        own = self.facts.pop(OWN, None)
        if own != _digest(self.facts):
            raise _damaged(path)
        self.check({"files": json_values.each(json_values.text)})
        for name, checksum in self.facts["files"].items():
            file = folder / name
            if Path(name).name != name or not file.is_file():
                raise UserError(f"{folder} is not complete, {printable(name)} is missing: copy it again")
            try:
                plain.check(file)
            except ValueError as error:
                raise _damaged(file, f": {error}") from error
            if _checksum(file) != checksum:
                raise _damaged(file)

    def check(self, rules: Mapping[str, json_values.Rule]) -> None:
        """Check facts; see `json_values.check`.

        Raises:
          UserError: if one is missing or not what it should be.
        """
        try:
            json_values.check(self.facts, rules)
        except UserError as error:
            raise _damaged(self._folder / INDEX, f": {error}") from error

    @property
    def checksum(self) -> str:
        """Of all that is in it."""
        return _checksum(self._folder / INDEX)

    def fact(self, name: str, kind: type[T]) -> T:
        """A fact of a type that was added.

        Raises:
          UserError: if it is something else.
        """
        try:
            return decode(kind, self.facts[name], _no_array)
        except Exception as error:  # whatever fails in a tree of another shape
            raise _damaged(self._folder / INDEX, f": {name} is not what it should be") from error

    def read(self, name: str, kind: type[T]) -> T:
        """A value of a type that was written.

        Raises:
          UserError: if it is something else, or was not written.
        """
        path = self._folder / f"{name}{SUFFIX}"
        if path.name not in self.facts["files"]:
            raise UserError(f"{self._folder} is not complete, {path.name} is missing: make it again")
        try:
            with safetensors.safe_open(path, framework="np") as file:

                def get(name: str) -> np.ndarray:
                    array = file.get_tensor(name)
                    return array.astype(np.float64) if array.dtype.kind == "f" else array

                tree = json_values.parse(file.metadata()["tree"], most_bytes=MOST_BYTES, deepest=DEEPEST)
                return decode(kind, tree, get)
        except Exception as error:  # of safetensors, or whatever fails in a tree of another shape
            raise _damaged(path) from error


def _read_index(path: Path) -> dict[str, Any]:
    content = json_values.read(path)
    if not isinstance(content, dict):
        raise ValueError("it is no object with fields")
    return content


def _damaged(path: Path, reason: str = "") -> UserError:
    return UserError(f"{path} is damaged{reason}: copy it again, or make it again")


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


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
