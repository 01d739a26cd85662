"""A trace of jax.profiler as plain values: what ran on the device, and what the host called.

The reader is `jax.profiler.ProfileData`. What it assumes of a trace (an "XSpace"), by the source of XLA
(openxla/xla: xla/tsl/profiler/utils/xplane_schema.cc, xla/backends/profiler/gpu/cupti_collector.cc,
xla/backends/gpu/runtime/annotation.cc, xla/backends/cpu/runtime/thunk_executor.cc):

- An NVIDIA GPU is a plane "/device:GPU:0" with a line per stream. Of its events, kernels have the stat
  `kernel_details`, copies `memcpy_details` ("kind_src:… kind_dst:… size:BYTES …"; their names are MemcpyD2H,
  MemcpyH2D, MemcpyD2D, MemcpyP2P), memsets `Memset_details`, and a CUDA graph that was traced as a whole
  `cuda_graph_exec_id`. Others (allocations, the profiler's own overhead, counters) are no work of the device.
- `hlo_module` and `hlo_op` of such an event name the program and the instruction that launched it. Within a
  CUDA graph `hlo_op` may be that of the launch of the graph; XLA names its own kernels after instructions,
  with "_" for what C does not allow in a name. While a profiler is active XLA replays no graphs, unless
  told so by xla_enable_command_buffers_during_profiling (xla/backends/gpu/runtime/command_buffer_thunk.cc).
- An AMD GPU is written alike (rocm_collector.cc). The calls that launch kernels are in "/host:CPU", with the
  same stats `hlo_module` and `hlo_op`.
- Without a GPU, operations are those events of the plane "/host:CPU" that have the stat `hlo_op`. They are in
  the lines of the threads that ran them, and one may contain others (a loop its body).
- Lines that XProf derives ("XLA Ops", "XLA Modules", "Steps") have none of these stats.
- Calls on the host are all other events of "/host:CPU", in a line per thread; those of Python begin with "$".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jax.profiler import ProfileData

from recipe.system.errors import UserError, first_line
from tools.profile.workload import DISPATCH

GPU, CPU = "/device:GPU:", "/host:CPU"
KERNEL, COPY, MEMSET, GRAPH = "kernel_details", "memcpy_details", "Memset_details", "cuda_graph_exec_id"
TO_HOST = "MemcpyD2H"
HOST_COPIES = (TO_HOST, "MemcpyH2D")
WAITS_IN_PAIRS = "::Await"  # the end of the name of two instants, begin and end, with one number


class Operation(NamedTuple):
    """Something that the device did. Times are in nanoseconds."""

    name: str  # a kernel's; on a CPU an instruction's
    stream: str  # or thread
    start: float
    end: float
    own: float  # its time without that of operations within it
    module: str  # the program; "" where the trace does not say
    program: str  # tells programs of one name apart; "" where the trace does not say
    hlo_op: str  # the instruction that launched it; "" where the trace does not say
    what: str  # kernel | copy | memset | graph
    bytes: int  # that a copy or memset moves


class Call(NamedTuple):
    """Something that a thread of the host did. Times are in nanoseconds."""

    name: str
    start: float
    end: float
    steps: int = 0  # of a dispatch of train steps


class Trace(NamedTuple):
    """What a trace holds of one device, and of the host."""

    device: str  # "GPU:0", "CPU"
    devices: int  # that did something; the others are not in here
    operations: tuple[Operation, ...]  # by their start
    threads: tuple[tuple[Call, ...], ...]  # of the host; each by its start


def read(file: Path) -> Trace:
    """Read an xplane.pb file.

    Raises:
      UserError: if it is none, or no device did anything in it.
    """
    try:
        data = ProfileData.from_file(str(file))
        return from_profile(data)
    except (RuntimeError, ValueError) as error:  # XLA's errors are of these kinds
        raise UserError(f"{file} is no trace of jax.profiler ({first_line(error)}); record again") from error


def from_profile(data: ProfileData) -> Trace:
    """The first device that did something, GPUs before the CPU.

    Raises:
      UserError: if there is none.
    """
    planes = {plane.name: plane for plane in data.planes}
    host = planes.get(CPU)
    on_gpus = {
        name.removeprefix("/device:"): _operations(plane, _on_gpu)
        for name, plane in sorted(planes.items())
        if name.startswith(GPU)
    }
    on_devices = {name: found for name, found in on_gpus.items() if found}
    # beside a GPU, what has the stat `hlo_op` on the host are launches
    if not on_gpus and host is not None and (found := _operations(host, _on_cpu)):
        on_devices = {"CPU": found}
    if not on_devices:
        raise UserError(
            "the trace holds no operation of a GPU or CPU; on a GPU that is so where CUPTI, NVIDIA's library "
            "for traces, is missing or serves another profiler"
        )
    device, operations = next(iter(on_devices.items()))
    threads = tuple(_calls(line.events) for line in host.lines) if host is not None else ()
    return Trace(device, len(on_devices), operations, threads)


def _operations(plane: Any, make: Any) -> tuple[Operation, ...]:
    found: list[Operation] = []
    for line in plane.lines:
        found += _without_inner(o for event in line.events if (o := make(line.name, event)))
    return tuple(sorted(found, key=lambda operation: (operation.start, operation.end)))


def _on_gpu(stream: str, event: Any) -> Operation | None:
    stats = dict(event.stats)
    kinds = {KERNEL: "kernel", COPY: "copy", MEMSET: "memset", GRAPH: "graph"}
    what = next((kind for stat, kind in kinds.items() if stat in stats), None)
    size = re.search(r"\b(?:size|num_bytes):(\d+)", str(stats.get(COPY, "") or stats.get(MEMSET, "")))
    return _operation(stream, event, stats, what, int(size[1]) if size else 0) if what else None


def _on_cpu(thread: str, event: Any) -> Operation | None:
    if event.name.startswith("$"):
        return None
    stats = dict(event.stats)
    return _operation(thread, event, stats, "kernel", 0) if "hlo_op" in stats else None


def _operation(stream: str, event: Any, stats: dict[str, Any], what: str, size: int) -> Operation:
    module, program, hlo_op = (str(stats.get(name, "")) for name in ("hlo_module", "program_id", "hlo_op"))
    start, end = event.start_ns, event.start_ns + event.duration_ns
    return Operation(event.name, stream, start, end, end - start, module, program, hlo_op, what, size)


def _without_inner(line: Iterable[Operation]) -> list[Operation]:
    """The operations of a line, each with its own time."""
    ordered = sorted(line, key=lambda o: (o.start, -o.end))
    own = [o.own for o in ordered]
    around: list[int] = []
    for i, operation in enumerate(ordered):
        while around and ordered[around[-1]].end <= operation.start:
            around.pop()
        if around:
            outer = around[-1]
            own[outer] -= min(operation.end, ordered[outer].end) - operation.start
        around.append(i)
    return [o._replace(own=max(0.0, t)) for o, t in zip(ordered, own, strict=True)]


def _calls(events: Iterable[Any]) -> tuple[Call, ...]:
    calls: list[Call] = []
    pairs: list[tuple[float, dict[str, Any]]] = []
    for event in events:
        if event.name.endswith(WAITS_IN_PAIRS):
            pairs.append((event.start_ns, dict(event.stats)))
            continue
        steps = int(dict(event.stats).get("steps", 0)) if event.name == DISPATCH else 0
        calls.append(Call(event.name, event.start_ns, event.start_ns + event.duration_ns, steps))
    return tuple(sorted([*calls, *_paired(pairs)], key=lambda call: (call.start, -call.end)))


def _paired(instants: Sequence[tuple[float, dict[str, Any]]]) -> Iterator[Call]:
    """Waits, from where they begin (the producer's number `_p`) to where they end (the consumer's `_c`)."""
    ends = {stats["_c"]: time for time, stats in instants if "_c" in stats}
    for time, stats in instants:
        if "_p" in stats and stats["_p"] in ends:
            yield Call(WAITS_IN_PAIRS, time, ends[stats["_p"]])
