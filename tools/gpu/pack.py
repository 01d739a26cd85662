"""CIFAR-10's prepared folder in pieces of at most 50 MB, and the folder out of the pieces again.

A piece is a stretch of all files behind each other. The manifest says what they are, with SHA-256 sums.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recipe.data.cifar import tfds_folder
from recipe.system import files, json_values
from recipe.system.errors import UserError

MANIFEST = "cifar10.json"
FORMAT = 1
MOST_BYTES = 50_000_000  # of a piece
BLOCK = 1 << 20


class Entry(NamedTuple):
    """A file of the folder, or a piece."""

    name: str
    bytes: int
    sha256: str


def pack(folder: Path, out: Path, most_bytes: int = MOST_BYTES) -> list[Path]:
    """Cut the prepared CIFAR-10 of a data folder into equal pieces; return them and the manifest.

    Raises:
      UserError: if there is no prepared CIFAR-10 in the folder.
    """
    found = tfds_folder.find(folder, "cifar10")
    if not found:
        raise UserError(f"{folder} holds no prepared CIFAR-10 (cifar10/<version>)")
    version, _ = found
    sources = sorted(path for path in version.iterdir() if path.is_file())
    total = sum(path.stat().st_size for path in sources)
    size = math.ceil(total / math.ceil(total / most_bytes))
    entries = [Entry(path.name, path.stat().st_size, _digest(_blocks(path))) for path in sources]
    stream = (block for path in sources for block in _blocks(path))
    rest, pieces = b"", []
    for number in range(1, math.ceil(total / size) + 1):
        while len(rest) < size and (block := next(stream, b"")):
            rest += block
        piece, rest = rest[:size], rest[size:]
        name = f"cifar10.{number}"
        with files.atomic_path(out / name) as temporary:
            temporary.write_bytes(piece)
        pieces.append(Entry(name, len(piece), hashlib.sha256(piece).hexdigest()))
    manifest = {
        "format": FORMAT,
        "version": version.name,
        "files": [entry._asdict() for entry in entries],
        "pieces": [entry._asdict() for entry in pieces],
    }
    files.write_text(out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return [*(out / entry.name for entry in pieces), out / MANIFEST]


def unpack(packed: Path, to: Path) -> Path:
    """Put the pieces together in `to`/cifar10/<version>, unless that is there; return it.

    Raises:
      UserError: if a piece is missing or damaged, or the manifest is; then nothing is written.
    """
    version, contained, pieces = _manifest(packed / MANIFEST)
    target = to / "cifar10" / version
    if target.is_dir() and {p.name: p.stat().st_size for p in target.iterdir()} == {
        entry.name: entry.bytes for entry in contained
    }:
        return target
    for piece in pieces:
        path = packed / piece.name
        if not path.is_file():
            raise UserError(f"{path} is missing: CIFAR-10 is in {len(pieces)} pieces; copy it there as well")
        if _digest(_blocks(path)) != piece.sha256:
            raise UserError(f"{path} is damaged: it has not the SHA-256 of {MANIFEST}; copy it again")
    stream = (block for piece in pieces for block in _blocks(packed / piece.name))
    rest = b""
    with files.atomic_folder(target) as folder:
        folder.mkdir()
        for entry in contained:
            digest, left = hashlib.sha256(), entry.bytes
            with (folder / entry.name).open("wb") as file:
                while left and (block := rest or next(stream, b"")):
                    block, rest = block[:left], block[left:]
                    file.write(block)
                    digest.update(block)
                    left -= len(block)
            if left or digest.hexdigest() != entry.sha256:
                raise UserError(f"{packed / MANIFEST} does not fit its pieces ({entry.name}): pack anew")
    return target


def _manifest(path: Path) -> tuple[str, list[Entry], list[Entry]]:
    """The version, its files, and the pieces; names are checked, since files are made by them."""
    try:
        content = json_values.read(path)
        if content["format"] != FORMAT or not re.fullmatch(r"\d+\.\d+\.\d+", content["version"]):
            raise ValueError("another format")
        contained, pieces = (_entries(content[key]) for key in ("files", "pieces"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no manifest of `python -m tools.gpu pack` ({error})") from error
    return content["version"], contained, pieces


def _entries(rows: list[dict[str, Any]]) -> list[Entry]:
    entries = [Entry(str(row["name"]), int(row["bytes"]), str(row["sha256"])) for row in rows]
    if bad := [entry.name for entry in entries if not re.fullmatch(r"\w[\w.-]*", entry.name)]:
        raise ValueError(f"a file called {bad[0]!r}")
    return entries


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
