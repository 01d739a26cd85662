"""Whether the host waits for the device between the dispatches of train steps, and what that costs.

A wait is harmless while steps are queued behind the one that is waited for: the training loop waits so, lest
it run far ahead. It is a host sync if the queue runs dry while it lasts: the device stands idle until the
host has dispatched anew. Whatever the reason, a dispatch that finds an empty queue shows that the device had
run dry. That is counted on its own, since no call's name is needed to see it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from tools.profile.intervals import Busy, Gap
from tools.profile.queue import Queue, ends_of_steps
from tools.profile.trace import HOST_COPIES, TO_HOST, WAITS_IN_PAIRS, Call, Trace
from tools.profile.workload import DISPATCH

# The first is JAX's own event, for float(), device_get and print as well; the other is of Python's tracer.
# np.asarray and .item() of an array on the CPU read its memory, and are no event
FETCH, BLOCK = "np.asarray(jax.Array)", re.compile(r"\$.* block_until_ready$|BlockHostUntilReady")
CALLERS = 3  # how many Python functions around a wait are named


class Wait(NamedTuple):
    """What one place in the program waited for. Times are in milliseconds."""

    call: str  # copy to the host | block until ready
    caller: str  # the Python functions around it, innermost first; "" where Python was not traced
    number: int
    ms: float
    drained: int  # how many of them let the queue run dry
    idle_ms: float  # how long the device stood idle then


class Waits(NamedTuple):
    """What happened between the first dispatch and the last."""

    dispatches: int
    dispatch_ms: float  # that a dispatch takes the host, waits in it included; the mean
    told: bool  # whether the trace tells when steps are done; else nothing is known of the queue
    waits: tuple[Wait, ...]
    dry: int  # dispatches that found an empty queue, without the first
    dry_ms: float  # how long the device stood idle around them
    copies_to_host: int  # that the host asked a GPU for; those of a CPU are none
    bytes_to_host: int
    copies_by_program: int  # to the host, that a program did by itself, in the whole trace

    @property
    def drained(self) -> int:
        """How many waits let the queue run dry."""
        return sum(wait.drained for wait in self.waits)

    @property
    def verdict(self) -> str:
        """In a sentence."""
        count, others = sum(wait.number for wait in self.waits), self.dispatches - 1
        found = f"{self.dry} of {others} dispatches found an empty queue" if others > 0 else ""
        causes = []
        if self.drained:
            causes.append(f"{self.drained} of {count} waits let the device's queue run dry")
        if self.copies_by_program:
            causes.append(
                f"the program copies to the host {self.copies_by_program} times by itself, as a loop does "
                "whose end XLA asks the device for, while the host waits"
            )
        if causes:
            return "Host syncs: " + "; ".join(filter(None, [*causes, found])) + "."
        if others < 1:
            return "One dispatch shows nothing about waits between dispatches."
        if not self.told:
            return (
                f"The host waits {count} times between dispatches; whether the device's queue runs dry then "
                "can't be told, since nothing in the trace ran once in each step."
            )
        if self.dry:
            return (
                f"No wait let the device's queue run dry, yet {self.dry} of {others} dispatches found it "
                "empty: the host is slower than the device, or waits in a call that is no event of the trace."
            )
        behind = f", and behind each of the {count} waits some were queued" if count else ""
        return f"No host sync between dispatches: each found steps in the queue{behind}."


def dispatches(trace: Trace) -> list[Call]:
    """The dispatches of train steps, by time."""
    return [call for call in dispatching(trace) if call.name == DISPATCH]


def dispatching(trace: Trace) -> tuple[Call, ...]:
    """The calls of the thread that dispatches train steps."""
    return next((calls for calls in trace.threads if any(call.name == DISPATCH for call in calls)), ())


def waits(trace: Trace) -> Waits:
    """Look at a trace between the start of its first dispatch and that of its last."""
    dispatched = dispatches(trace)
    ends = ends_of_steps(trace.operations, sum(call.steps for call in dispatched))
    queue = Queue(dispatched, ends) if ends else None
    first, last = (dispatched[0].start, dispatched[-1].start) if dispatched else (0.0, 0.0)
    # what a wait fetches is copied by the device, but is no work that it was given
    busy = Busy((o.start, o.end) for o in trace.operations if o.name not in HOST_COPIES)
    calls = dispatching(trace)
    within = [wait for wait in _waiting(calls) if first <= wait.start and wait.end <= last]
    dry = [call.start for call in dispatched[1:] if queue and queue.is_empty(call.start)]
    copies = [o for o in trace.operations if o.name == TO_HOST]
    fetched = [o for o in copies if not o.module and first <= o.start and o.end <= last]
    return Waits(
        dispatches=len(dispatched),
        dispatch_ms=sum(call.end - call.start for call in dispatched) / max(len(dispatched), 1) / 1e6,
        told=queue is not None,
        waits=_by_place(within, calls, queue, busy),
        dry=len(dry),
        dry_ms=_idle(dry, busy),
        copies_to_host=len(fetched),
        bytes_to_host=sum(copy.bytes for copy in fetched),
        copies_by_program=sum(bool(copy.module) for copy in copies),
    )


def _waiting(calls: Sequence[Call]) -> Iterator[Call]:
    """The outermost calls that wait."""
    end = float("-inf")
    for call in calls:
        is_wait = call.name in (FETCH, WAITS_IN_PAIRS) or BLOCK.search(call.name)
        if is_wait and call.start >= end:
            yield call
            end = call.end


def _by_place(
    found: Sequence[Call], calls: Sequence[Call], queue: Queue | None, busy: Busy
) -> tuple[Wait, ...]:
    """Waits of one place together; those that took longest first."""
    places: dict[tuple[str, str], list[Call]] = {}
    for wait in found:
        kind = "copy to the host" if wait.name == FETCH else "block until ready"
        places.setdefault((kind, _caller(wait, calls)), []).append(wait)
    rows = []
    for place, together in places.items():
        drained = [wait.end for wait in together if queue and queue.runs_dry(wait.start, wait.end)]
        ms = sum(wait.end - wait.start for wait in together) / 1e6
        rows.append(Wait(*place, len(together), ms, len(drained), _idle(drained, busy)))
    return tuple(sorted(rows, key=lambda wait: -wait.ms))


def _idle(times: Iterable[float], busy: Busy) -> float:
    """How long the device stood idle around some times, in milliseconds; each gap once."""
    gaps: set[Gap] = {gap for time in times if (gap := busy.gap_at(time))}
    return sum(gap.length for gap in gaps) / 1e6


def _caller(wait: Call, calls: Sequence[Call]) -> str:
    around = [c for c in calls if c.name.startswith("$") and c.start <= wait.start and wait.end <= c.end]
    names = [c.name[1:] for c in around if c is not wait and not _is_of_jax(c.name)]
    return " in ".join(names[::-1][:CALLERS])


def _is_of_jax(name: str) -> bool:
    """Whether an event's name, "$file.py:line function", has a file of JAX's or of what that builds on."""
    file = re.match(r"\$([^:]+\.py):\d+ ", name)
    return file is None or file[1] in _files_of_jax()


@functools.cache
def _files_of_jax() -> frozenset[str]:
    return frozenset(path.name for path in Path(jax.__file__).parent.rglob("*.py")) | {"contextlib.py"}
