"""What may be where a file is expected: a folder, a pipe, a device, a link, a file of terabytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def _itself(path: Path) -> None:
    path.symlink_to(path.name)


def _terabytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)


KINDS: dict[str, Callable[[Path], None]] = {
    "a folder": _folder,
    "a pipe": os.mkfifo,
    "an endless device": _device,
    "a link to nowhere": _nowhere,
    "a link to itself": _itself,
    "4 TB of zeros": _terabytes,
}


def replace(path: Path, draw: Random) -> str:
    """Put something else in a file's place; what it is."""
    what = draw.choice(list(KINDS))
    path.unlink()
    KINDS[what](path)
    return what
