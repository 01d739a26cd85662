"""How many of the dispatched steps the device has still to do, at any time of a trace."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Sequence

from tools.profile.trace import Call, Operation


class Queue:
    """The steps that were dispatched and are not done. A trace begins and ends with none."""

    def __init__(self, dispatches: Sequence[Call], ends: Sequence[float]):
        """`ends` are those of all steps, by time; see `ends_of_steps`."""
        self._starts = [call.start for call in dispatches]
        self._dispatched = [0]
        for call in dispatches:
            self._dispatched.append(self._dispatched[-1] + call.steps)
        self._ends = list(ends)

    def is_empty(self, time: float) -> bool:
        """Whether all steps are done whose dispatch began before this time."""
        dispatched = self._dispatched[bisect.bisect_left(self._starts, time)]
        return bisect.bisect_right(self._ends, time) >= dispatched

    def runs_dry(self, start: float, end: float) -> bool:
        """Whether there are steps at a time, and none at a later one."""
        return not self.is_empty(start) and self.is_empty(end)


def ends_of_steps(operations: Sequence[Operation], steps: int) -> list[float]:
    """When each step was done, by time; empty if that can't be told.

    Of what ran once in each step, it is the end of the one that ends last.
    """
    ends: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for o in operations:
        ends[o.module, o.hlo_op, o.name].append(o.end)
    once = [sorted(times) for times in ends.values() if len(times) == steps]
    return max(once, key=lambda times: times[-1], default=[])
