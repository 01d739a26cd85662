"""Tensors are matched by name, all of them, or not at all."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from recipe.system.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]


def check(found: Shapes, wanted: Shapes, what: str = "the checkpoint does not fit the network") -> None:
    """Check that two sets of named shapes are the same.

    Raises:
      UserError: in one message, every missing, unexpected and wrong-shaped tensor; a missing one with the
        nearest name among the unexpected ones as a hint.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    problems = [f"missing {name}{_hint(name, unexpected)}" for name in missing]
    problems += [f"unexpected {name}" for name in unexpected]
    problems += [
        f"{name} has shape {tuple(found[name])} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if problems:
        raise UserError(f"{what}: {'; '.join(problems)}")


def _hint(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.75)
    return f" (is it {close[0]}?)" if close else ""
