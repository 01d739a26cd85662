"""What the campaign of damaged inputs knows of a reader of the product."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def _nothing() -> None:
    """No preparation."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader, and how to make what it reads.

    `make` and `read` run in processes of their own, which begin with `prepare`.
    """

    name: str
    make: Callable[[Path], Any]  # writes a sound sample into an empty folder
    read: Callable[[Path], Any]  # of that folder; what it returns is compared by ==
    checked: bool = True  # whether damage shows: what is read is the sound value, or nothing is
    share: float = 1.0  # of the inputs, beside other readers
    files: str = "*"  # which of the sample's files are damaged, as a pattern
    nodes: bool = True  # whether pipes, devices, folders … stand in the files' places, too
    megabytes: int = 512  # more than that it may not take
    prepare: Callable[[], Any] = _nothing


def fingerprint(value: Any) -> str:
    """A value as a few letters: other ones for other numbers, dtypes, shapes and names."""
    return hashlib.sha256(_bytes(value)).hexdigest()[:16]


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"{" + b"".join(repr(k).encode() + _bytes(v) for k, v in sorted(value.items())) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(map(_bytes, value)) + b"]"
    if hasattr(value, "shape"):
        array = np.asarray(value)
        return f"{array.dtype} {array.shape} ".encode() + array.tobytes()
    return repr(value).encode()
