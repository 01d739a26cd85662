"""What the folders of pairs list: mistakes, and rewritings that are none."""

from __future__ import annotations

from typing import NamedTuple

TORCH, FLAX, CONVERT = "torch_net.py", "flax_net.py", "convert.py"


class Mutant(NamedTuple):
    """A mistake, where it must be found and as what."""

    name: str
    pair: str
    file: str
    old: str  # occurs once in the file
    new: str
    where: str  # path of the PyTorch module whose result, or in front of which the code, differs; or a tensor
    family: str


class Rewriting(NamedTuple):
    """Another way to write the same."""

    name: str
    pair: str
    file: str
    old: str  # occurs once in the file
    new: str


def mistakes(pair: str, file: str, *rows: tuple[str, str, str, str, str]) -> list[Mutant]:
    """Mistakes in one of a pair's files: name, old, new, where, family."""
    return [Mutant(row[0], pair, file, *row[1:]) for row in rows]


def rewritings(pair: str, file: str, *rows: tuple[str, str, str]) -> tuple[Rewriting, ...]:
    """Rewritings of one of a pair's files: name, old, new."""
    return tuple(Rewriting(row[0], pair, file, *row[1:]) for row in rows)
