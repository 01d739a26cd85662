"""Everything that a comparison found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from parity.comparison.findings import DIFFERENT, EQUAL, FLOAT32_SIZED, LESS_EXACT, Place
from parity.result import Report


@dataclasses.dataclass(frozen=True)
class Difference:
    """Places that differ for one reason."""

    family: str  # of the cause
    words: str  # what happened
    places: tuple[Place, ...]  # in PyTorch's order of execution
    guess: bool = False  # whether the cause was only inferred, not reproduced by its numbers

    @property
    def first(self) -> Place:
        """Where it comes first."""
        return self.places[0]

    @property
    def worst(self) -> Place:
        """Where it is largest beside its budget."""
        return max(self.places, key=lambda place: place.ratio)


@dataclasses.dataclass(frozen=True, repr=False)
class CompareReport(Report):
    """A report whose findings are places, grouped by cause. `str` of it is what a terminal shows.

    Attributes:
      differences: what failed, by cause, in PyTorch's order of execution.
      less_exact: places where one side's formula rounds more; they don't fail.
      allowed: what the user allowed, by reason.
      unseen: what was not looked at, and why, in words.
      notes: what else a reader has to know: guesses, and what was chosen.
      undone: what was asked for and could not be compared, and why: no pass without it.
      mapping: the mapping as Python.
    """

    differences: tuple[Difference, ...] = ()
    less_exact: tuple[Difference, ...] = ()
    allowed: tuple[Difference, ...] = ()
    unseen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    mapping: str = ""

    def __str__(self) -> str:
        """All of it in words; the last line is the verdict."""
        from parity.comparison import text  # which imports this file

        return text.render(self)

    def __repr__(self) -> str:
        """The verdict."""
        from parity.comparison import text

        return f"<{type(self).__name__}: {text.verdict_of(self)}>"

    @property
    def passed(self) -> bool:
        """Whether all that was asked for was compared and is the same."""
        return super().passed and not self.undone

    @property
    def incomplete(self) -> bool:
        """Whether all that was compared is the same, but not all that was asked for was compared."""
        return super().passed and bool(self.undone)

    @property
    def places(self) -> Iterator[Place]:
        """All of them."""
        for check in self.checks:
            for finding in check.findings:
                if isinstance(finding, Place):
                    yield finding

    def count(self, verdict: str) -> int:
        """How many places have a verdict."""
        return sum(place.verdict == verdict for place in self.places)


VERDICTS = (EQUAL, LESS_EXACT, FLOAT32_SIZED, DIFFERENT)
