"""Hand-made traces, as jax.profiler writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.profiler import ProfileData

from tools.profile.workload import DISPATCH

Event = tuple[str, int, int, Mapping[str, Any]]  # name, start and end in nanoseconds, stats
DETAILS = "regs:32 static_shared:0 dynamic_shared:0 grid:1,1,1 block:1,1,1 occ_pct:100"


def profile(planes: Mapping[str, Mapping[str, Sequence[Event]]]) -> ProfileData:
    """A profile from events by plane and line. Texts are stored as references, as XLA stores them."""
    return ProfileData.from_serialized_xspace(
        ProfileData.text_proto_to_serialized_xspace("\n".join(_plane(*plane) for plane in planes.items()))
    )


def kernel(name: str, start: int, end: int, hlo_op: str = "", module: str = "jit_steps") -> Event:
    """A kernel on a GPU."""
    told = {"hlo_op": hlo_op, "hlo_module": module, "program_id": 6} if hlo_op else {}
    return name, start, end, {"kernel_details": DETAILS, "correlation_id": 7, **told}


def copy(name: str, start: int, end: int, size: int) -> Event:
    """A copy by a GPU: MemcpyD2H, MemcpyH2D or MemcpyD2D."""
    details = f"kind_src:device kind_dst:pinned size:{size} dest:0 async:1"
    return name, start, end, {"memcpy_details": details}


def dispatch(start: int, end: int, steps: int) -> Event:
    """A dispatch of train steps."""
    return DISPATCH, start, end, {"steps": steps}


def call(name: str, start: int, end: int) -> Event:
    """A call on the host."""
    return name, start, end, {}


def _plane(name: str, lines: Mapping[str, Sequence[Event]]) -> str:
    events = {event[0] for line in lines.values() for event in line}
    stats = {key for line in lines.values() for event in line for key in event[3]}
    texts = {v for line in lines.values() for e in line for v in e[3].values() if isinstance(v, str)}
    ids = {text: number for number, text in enumerate(sorted(events | stats | texts), start=1)}
    written = []
    for number, (line, of_line) in enumerate(lines.items(), start=1):
        inner = " ".join(_event(event, ids) for event in of_line)
        written.append(f'lines {{ id: {number} name: "{line}" timestamp_ns: 1000 {inner} }}')
    for text in events:
        written.append(f'event_metadata {{ key: {ids[text]} value {{ id: {ids[text]} name: "{text}" }} }}')
    for text in stats | texts:
        written.append(f'stat_metadata {{ key: {ids[text]} value {{ id: {ids[text]} name: "{text}" }} }}')
    return f'planes {{ name: "{name}" {" ".join(written)} }}'


def _event(event: Event, ids: Mapping[str, int]) -> str:
    name, start, end, stats = event
    values = " ".join(
        f"stats {{ metadata_id: {ids[key]} {_value(value, ids)} }}" for key, value in stats.items()
    )
    times = f"offset_ps: {1000 * start} duration_ps: {1000 * (end - start)}"
    return f"events {{ metadata_id: {ids[name]} {times} {values} }}"


def _value(value: Any, ids: Mapping[str, int]) -> str:
    return f"ref_value: {ids[value]}" if isinstance(value, str) else f"int64_value: {value}"
