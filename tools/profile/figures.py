"""The figures of a profile: device time by kind of work, launches, bytes, gaps."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tools.profile import kinds
from tools.profile.intervals import Busy
from tools.profile.kinds import Program
from tools.profile.trace import HOST_COPIES, Operation, Trace
from tools.profile.waits import Waits, dispatches, waits

GAPS_US = (1.0, 10.0, 100.0, float("inf"))  # the upper ends of the classes that gaps are counted in
LONGEST = 15  # instructions that are listed on their own


class Row(NamedTuple):
    """One kind of work."""

    kind: str
    launches: float  # kernels and copies per step
    ms: float  # of the device per step; what runs at the same time counts in full
    share: float  # of all such time
    mb: float | None  # 10⁶ bytes per step that the instructions read and write; None where that is not known


class Instruction(NamedTuple):
    """One instruction of the program of the steps."""

    name: str
    kind: str
    shape: str  # of its result
    origin: str  # where the traced function made it
    kernels: tuple[str, ...]  # that it launched
    launches: float  # per step
    ms: float  # per step
    mb: float


class Gaps(NamedTuple):
    """Idle stretches of the device of one class of lengths."""

    up_to_us: float
    number: int
    ms: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a trace shows."""

    device: str
    devices: int  # that did something; the figures are of the first
    steps: int  # that were dispatched
    steps_seen: int  # how often the device ran what a step runs once; 0 where that can't be told
    dispatches: int
    rows: tuple[Row, ...]
    longest: tuple[Instruction, ...]
    instructions: int  # of the program of the steps, that launched something
    convolutions: int  # of that program
    convolutions_seen: int  # that launched something
    open_loops: tuple[str, ...]  # of that program; how often they run is not in its text
    has_scopes: bool  # whether the program says what is augmentation and optimizer
    guessed: float  # share of the time whose kind is guessed by the name of a library's kernel
    window_ms: float  # from the first operation to the last
    busy_ms: float  # of these, in which something runs
    gaps: tuple[Gaps, ...]
    waits: Waits

    @property
    def idle(self) -> float:
        """The share of the window in which nothing runs on the device."""
        return 1 - self.busy_ms / self.window_ms if self.window_ms else 0.0

    @property
    def launches(self) -> float:
        """Kernels and copies per step."""
        return sum(row.launches for row in self.rows)

    @property
    def ms(self) -> float:
        """Of the device per step."""
        return sum(row.ms for row in self.rows)

    @property
    def mb(self) -> float:
        """10⁶ bytes per step that the program of the steps reads and writes, where it is known."""
        return sum(row.mb or 0.0 for row in self.rows)


class _Told(NamedTuple):
    """An operation, and what it is."""

    operation: Operation
    instruction: str  # of the program of the steps; "" of others and where that can't be told
    kind: str
    guessed: bool


def figures(trace: Trace, texts: Iterable[str]) -> Figures:
    """Figures of a trace of train steps.

    Args:
      trace: with an event per dispatch.
      texts: the optimized HLO modules that ran, and possibly others.
    """
    own: dict[tuple[str, str], float] = defaultdict(float)  # by module and program
    for o in trace.operations:
        if o.module:
            own[o.module, o.program] += o.own
    main = max(own, key=lambda key: own[key], default=("", ""))
    of_steps = [o for o in trace.operations if (o.module, o.program) == main]
    program = _program(main[0], of_steps, texts)
    told = [_tell(o, main, program) for o in trace.operations]
    found = waits(trace)
    steps = sum(call.steps for call in dispatches(trace))
    ran = {one.instruction for one in told if one.instruction}
    seen = {part.name for name in ran for part in program.parts(name)} if program else set()
    busy = Busy((o.start, o.end) for o in trace.operations)
    in_all = sum(o.own for o in trace.operations) or 1.0
    return Figures(
        device=trace.device,
        devices=trace.devices,
        steps=steps,
        steps_seen=_repeats(told),
        dispatches=found.dispatches,
        rows=_rows(told, program, steps, in_all),
        longest=_longest(told, program, steps),
        instructions=len(ran),
        convolutions=len(program.convolutions) if program else 0,
        convolutions_seen=len(program.convolutions & seen) if program else 0,
        open_loops=program.open_loops if program else (),
        has_scopes=program is not None and program.has_scopes,
        guessed=sum(one.operation.own for one in told if one.guessed) / in_all,
        window_ms=busy.window / 1e6,
        busy_ms=busy.length / 1e6,
        gaps=_gaps(busy),
        waits=found,
    )


def _program(name: str, operations: Sequence[Operation], texts: Iterable[str]) -> Program | None:
    """Of the programs with a name the one that has most of the instructions; None where there is none."""
    wanted = {o.hlo_op for o in operations}
    programs = [
        Program(text) for text in texts if text.startswith((f"HloModule {name},", f"HloModule {name}\n"))
    ]
    return max(programs, key=lambda program: sum(op in program for op in wanted), default=None)


def _tell(operation: Operation, main: tuple[str, str], program: Program | None) -> _Told:
    if operation.name in HOST_COPIES:
        return _Told(operation, "", kinds.HOST, guessed=False)
    of_others = bool(operation.module) and (operation.module, operation.program) != main
    if program and not of_others and (name := program.instruction(operation.hlo_op, operation.name)):
        return _Told(operation, name, program.kind(name), guessed=False)
    if operation.what in ("copy", "memset"):
        return _Told(operation, "", kinds.COPIES, guessed=False)
    if of_others:
        return _Told(operation, "", kinds.OTHER, guessed=False)
    kind = kinds.guess(operation.name)
    return _Told(operation, "", kind, guessed=kind != kinds.OTHER)


def _repeats(told: Sequence[_Told]) -> int:
    """How often most instructions ran: as often as there were steps, but for those in a loop within a step.

    Of a library's call, each kernel is counted on its own.
    """
    counts = Counter((one.instruction, one.operation.name) for one in told if one.instruction)
    most = Counter(counts.values()).most_common(1)
    return most[0][0] if most else 0


def _rows(told: Sequence[_Told], program: Program | None, steps: int, in_all: float) -> tuple[Row, ...]:
    rows = []
    for kind in kinds.KINDS:
        of_kind = [one for one in told if one.kind == kind]
        if of_kind:
            own = sum(one.operation.own for one in of_kind)
            mb = _bytes(of_kind, program) / max(steps, 1) / 1e6
            known = any(one.instruction or one.operation.bytes for one in of_kind)
            launches, ms = len(of_kind) / max(steps, 1), own / max(steps, 1) / 1e6
            rows.append(Row(kind, launches, ms, own / in_all, mb if known else None))
    return tuple(rows)


def _longest(told: Sequence[_Told], program: Program | None, steps: int) -> tuple[Instruction, ...]:
    if program is None:
        return ()
    by_name: dict[str, list[_Told]] = defaultdict(list)
    for one in told:
        if one.instruction:
            by_name[one.instruction].append(one)
    each = max(steps, 1)
    rows = [
        Instruction(
            name=name,
            kind=program.kind(name),
            shape=program.shape(name),
            origin=program.origin(name),
            kernels=tuple(sorted({one.operation.name for one in of_it})),
            launches=len(of_it) / each,
            ms=sum(one.operation.own for one in of_it) / each / 1e6,
            mb=_bytes(of_it, program) / each / 1e6,
        )
        for name, of_it in by_name.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.ms)[:LONGEST])


def _bytes(told: Sequence[_Told], program: Program | None) -> float:
    """Bytes that operations move; those of a library's call once, however many kernels it has."""
    moved = float(sum(one.operation.bytes for one in told if not one.instruction))
    counts = Counter((one.instruction, one.operation.name) for one in told if one.instruction)
    runs: dict[str, int] = {}
    for (name, _), count in counts.items():
        runs[name] = max(count, runs.get(name, 0))
    return moved + sum(program.traffic(name) * count for name, count in runs.items()) if program else moved


def _gaps(busy: Busy) -> tuple[Gaps, ...]:
    classes, low = [], -1.0
    for high in GAPS_US:
        lengths = [gap.length for gap in busy.gaps if low < gap.length / 1e3 <= high]
        classes.append(Gaps(high, len(lengths), sum(lengths) / 1e6))
        low = high
    return tuple(classes)
