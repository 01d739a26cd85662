"""Stretches of time in which a device works, and the gaps between them."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import NamedTuple


class Gap(NamedTuple):
    """A stretch in which nothing runs, in nanoseconds."""

    start: float
    end: float

    @property
    def length(self) -> float:
        """In nanoseconds."""
        return self.end - self.start


class Busy:
    """When at least one of some stretches, as of several streams, lasts."""

    def __init__(self, stretches: Iterable[tuple[float, float]]):
        """Each stretch is (start, end); one at least."""
        merged: list[list[float]] = []
        for start, end in sorted(stretches):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self._starts, self._ends = [start for start, _ in merged], [end for _, end in merged]

    @property
    def length(self) -> float:
        """How long something runs."""
        return sum(self._ends) - sum(self._starts)

    @property
    def window(self) -> float:
        """From the first start to the last end."""
        return self._ends[-1] - self._starts[0]

    @property
    def gaps(self) -> list[Gap]:
        """All between the first start and the last end, in order."""
        return [Gap(end, start) for end, start in zip(self._ends, self._starts[1:], strict=False)]

    def gap_at(self, time: float) -> Gap | None:
        """The gap that a time falls into, ends included; None where there is none."""
        i = bisect.bisect_right(self._starts, time)
        if 0 < i < len(self._starts) and self._ends[i - 1] <= time:
            return Gap(self._ends[i - 1], self._starts[i])
        return None
