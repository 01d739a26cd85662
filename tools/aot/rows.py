"""Figures of compiled programs, kept in a file: some programs take minutes to compile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from jax.stages import Lowered

from recipe.system import files
from tools.aot.figures import Figures
from tools.aot.targets import Target


class Row(NamedTuple):
    """One compiled program."""

    target: str
    platform: str
    step: str  # train | eval
    batch_size: int
    precision: str
    fingerprint: str
    figures: Figures


def fingerprint(lowered: Lowered, target: Target, versions: Mapping[str, str]) -> str:
    """A hash of everything that a compiled program depends on."""
    parts = lowered.as_text(), target.name, target.options, sorted(versions.items())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def read(file: Path) -> dict[str, Row]:
    """The rows of a file by fingerprint; none if there is no file."""
    if not file.exists():
        return {}
    rows = [
        Row(**row | {"figures": Figures(**row["figures"])}) for row in json.loads(file.read_text("utf-8"))
    ]
    return {row.fingerprint: row for row in rows}


def write(file: Path, rows: Iterable[Row]) -> None:
    """Write rows to a file."""
    saved = [row._asdict() | {"figures": row.figures._asdict()} for row in rows]
    files.write_text(file, json.dumps(saved, indent=1) + "\n")
