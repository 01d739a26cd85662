"""The levels of a comparison."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from recipe.system.errors import UserError

TITLES = {
    1: "mapping",
    2: "evaluation forward",
    3: "training forward",
    4: "gradients",
    5: "optimizer step",
}
ALL = tuple(TITLES)
FORWARD = {"eval": 2, "train": 3}  # a mode's own level


def chosen_levels(levels: Iterable[int]) -> frozenset[int]:
    """Levels as a set.

    Raises:
      UserError: for one that does not exist.
    """
    chosen = frozenset(levels)
    if not chosen or not chosen <= TITLES.keys():
        raise UserError(f"levels are of {', '.join(map(str, TITLES))}, not {sorted(chosen)}")
    return chosen


def modes_of(modes: Sequence[str], levels: Collection[int]) -> list[str]:
    """The modes that levels need: gradients and updates need all."""
    return [mode for mode in modes if {FORWARD[mode], 4, 5} & set(levels)]


def with_gradients(levels: Collection[int]) -> bool:
    """Whether levels need gradients."""
    return bool({4, 5} & set(levels))
