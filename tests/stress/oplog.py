"""The log of the library of faults, and what a disk holds when the power fails in the midst of it.

A file system may keep what was not flushed, or lose it. A file's data is kept by a flush of the file, a name
by one of the folder that it stands in (fsync(2)). `Disk` does what the log says, and draws what is kept.
"""

from __future__ import annotations

import dataclasses
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("<8sqqqiiii")  # of faults.c: struct record
EXCHANGE = 2  # RENAME_EXCHANGE
REMOVE_FOLDER = 0x200  # AT_REMOVEDIR


class Operation(NamedTuple):
    """Something that was done to the file system."""

    name: str
    path: str
    other: str  # of a rename: the new path
    offset: int  # of a write
    flags: int
    data: bytes


def read(path: Path) -> Iterator[Operation]:
    """The operations in a log that did not fail, in their order."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        name, _, offset, flags, a, b, size, failed = HEADER.unpack_from(content, at)
        at += HEADER.size
        texts = content[at : at + a], content[at + a : at + a + b], content[at + a + b : at + a + b + size]
        at += a + b + size
        if not failed:
            first, second, data = texts
            yield Operation(
                name.rstrip(b"\0").decode(), os.fsdecode(first), os.fsdecode(second), offset, flags, data
            )


@dataclasses.dataclass
class _Node:
    """A file or a folder: what it holds, and what of it is on disk."""

    now: bytearray | dict[str, _Node]
    kept: bytes | dict[str, _Node]


class Disk:
    """A folder that is empty at first, and then changed by operations."""

    def __init__(self, root: Path):
        self._parts = len(root.parts)
        self._root = _Node({}, {})

    def do(self, operation: Operation) -> None:
        """Do one."""
        name, path = operation.name, operation.path
        if name == "create":
            self._names(path)[Path(path).name] = _Node(bytearray(), b"")
        elif name == "mkdir":
            if Path(path).parts[self._parts :]:
                self._names(path)[Path(path).name] = _Node({}, {})
        elif name == "unlink":
            del self._names(path)[Path(path).name]
        elif name == "rename":
            old, new = self._names(path), self._names(operation.other)
            moved = old.pop(Path(path).name)
            if operation.flags & EXCHANGE:
                old[Path(path).name] = new[Path(operation.other).name]
            new[Path(operation.other).name] = moved
        elif name in ("trunc", "write", "resize"):
            data = self._find(path).now
            assert isinstance(data, bytearray)
            if name == "write":
                end = operation.offset + len(operation.data)
                data.extend(bytes(max(0, end - len(data))))
                data[operation.offset : end] = operation.data
            else:
                size = operation.flags if name == "resize" else 0
                data[:] = data[:size].ljust(size, b"\0")
        elif name == "fsync":
            node = self._find(path)
            node.kept = bytes(node.now) if isinstance(node.now, bytearray) else dict(node.now)

    def after_power_loss(self, place: Path, rng: random.Random, luck: float) -> None:
        """Write what is on disk after a loss of power.

        Args:
          place: a free path for the folder.
          rng: decides what is lost of what was not flushed.
          luck: how likely each name or content that was not flushed is kept: 0 for the worst disk.
        """
        self._write(self._root, place, rng, luck)

    def _write(self, node: _Node, place: Path, rng: random.Random, luck: float) -> None:
        if isinstance(node.now, bytearray):
            assert isinstance(node.kept, bytes)
            flushed = node.kept == node.now
            if flushed or rng.random() < luck:
                place.write_bytes(node.now)
            else:  # a part of the new data over the old, or zeros that were to be data
                keep = rng.randint(0, len(node.now))
                lost = bytes(len(node.now) - keep) if rng.random() < 0.5 else b""
                place.write_bytes(node.kept if rng.random() < 0.3 else bytes(node.now[:keep]) + lost)
            return
        place.mkdir()
        assert isinstance(node.kept, dict)
        for name in sorted(node.now.keys() | node.kept.keys()):
            flushed_one, present = node.kept.get(name), node.now.get(name)
            chosen = present if present is flushed_one or rng.random() < luck else flushed_one
            if chosen is not None:
                self._write(chosen, place / name, rng, luck)

    def _find(self, path: str) -> _Node:
        node = self._root
        for part in Path(path).parts[self._parts :]:
            assert isinstance(node.now, dict)
            node = node.now[part]
        return node

    def _names(self, path: str) -> dict[str, _Node]:
        names = self._find(str(Path(path).parent)).now
        assert isinstance(names, dict)
        return names
