"""Matching tensors by name and shape: all of them, or none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from recipe.system.errors import UserError
from recipe.system.terminal import printable

Shapes = Mapping[str, tuple[int, ...]]
MOST_PAIRS = 200_000  # of missing and unexpected names that are compared for a hint, in a few seconds


def check(found: Shapes, wanted: Shapes, what: str = "the checkpoint does not fit the network") -> None:
    """Match tensors by name: check that `found` has the names and shapes of `wanted`, and no others.

    Args:
      found: shapes by name.
      wanted: shapes by name.
      what: what the error message begins with.

    Raises:
      UserError: if a tensor is missing, unexpected or of another shape. One message names all of them, and
        for a missing one the unexpected one of the nearest name.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    candidates = unexpected if len(missing) * len(unexpected) <= MOST_PAIRS else []
    problems = [f"missing {name}{_hint(name, candidates)}" for name in missing]
    problems += [f"unexpected {name}" for name in unexpected]
    problems += [
        f"{name} has shape {tuple(found[name])} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if problems:
        raise UserError(printable(f"{what}: {'; '.join(problems)}"))


def _hint(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.75)
    return f" (is it {close[0]}?)" if close else ""
