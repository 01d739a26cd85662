"""A profile as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from parity.speed.jobs import title
from recipe.output import grid
from tools.aot.figures import Figures as Counted
from tools.profile.figures import Figures
from tools.profile.record import GRAPHS, Recording
from tools.profile.waits import Waits

MOST_LETTERS = 60  # of a kernel's name or a shape on the page

COUNTING = """
## How it is counted

- **ms per step** is the time that kernels and copies took on the device. What runs at the same time counts in
  full; what an operation contains is not counted twice.
- **launches per step** are kernels, copies and memsets; on a CPU the operations of the program. A call of
  cuDNN may be several kernels.
- **MB per step** (10⁶ bytes) is what the instructions read and write, each array once and whole, as
  `tools/aot/hlo.py` counts it in the program's text; of copies without an instruction, what the trace says.
  GB/s is that by the device's time: above the memory's speed where a cache helps.
- **Kinds** are told by the instruction that launched a kernel (`tools/profile/kinds.py`). A launch that does
  several things counts as one kind: a batch norm's sums are in "reduction" with what XLA fuses into them.
  "other" is what can't be told, and other programs.
- **Idle** is when nothing runs on the device, between its first operation and its last.
- **Waits** are looked for from the first dispatch to the last (`tools/profile/waits.py`).
"""


def markdown(recording: Recording, found: Figures, counted: Counted | None) -> str:
    """The whole page."""
    work = recording.workload
    what = title(work.arch, work.width, work.precision, work.batch_size)
    how = "an epoch of the training loop" if work.loop else "train steps"
    parts = [
        f"# Profile: {what}\n",
        f"{found.steps} steps in {found.dispatches} dispatches ({how}), on {found.device}: "
        f"{recording.environment.get('jax device', 'unknown')}.\n",
        "".join(f"- {line}\n" for line in _notes(recording, found)),
        _kinds(found),
        _longest(found),
        _idle(found),
        _waits(found.waits, python=work.loop),
        _predicted(found, counted, work.batch_size),
        COUNTING,
        "\n" + ", ".join(f"{k} {v}" for k, v in recording.environment.items() if v) + ".\n",
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts if part)


def as_json(recording: Recording, found: Figures, counted: Counted | None) -> str:
    """Every number, with the sums that the page shows."""
    content: dict[str, Any] = {
        "workload": dataclasses.asdict(recording.workload),
        "environment": recording.environment,
        "platform": recording.platform,
        "notes": _notes(recording, found),
        "idle_share": found.idle,
        "ms_per_step": found.ms,
        "launches_per_step": found.launches,
        "mb_per_step": found.mb,
        "verdict": found.waits.verdict,
        "figures": _plain(found),
        "counted_ahead_of_time": counted._asdict() if counted else None,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Dataclasses and named tuples as objects; the open end of the last class of gaps as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: _plain(of) for name, of in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(of) for of in value]
    return None if value == float("inf") else value


def _notes(recording: Recording, found: Figures) -> list[str]:
    """What a reader has to know before believing a number."""
    notes = []
    if recording.platform == "cpu":
        notes.append("This ran on a CPU, and says nothing about an accelerator.")
    if found.device == "CPU" and recording.platform != "cpu":
        notes.append(
            "The trace holds nothing of the accelerator, only operations on the CPU: CUPTI, NVIDIA's library "
            "for traces, was missing or served another profiler."
        )
    if recording.platform != "cpu" and GRAPHS not in recording.environment.get("XLA_FLAGS", ""):
        notes.append(
            "XLA launches kernels one by one while it is traced, also where training replays CUDA graphs, "
            "so gaps may be longer than in training; with --graphs it replays them."
        )
    if found.open_loops and recording.platform != "cpu":
        notes.append(
            f"How often `{', '.join(found.open_loops)}` runs is not in the program's text. XLA asks the "
            "device each time whether to go on, and the host waits for the answer, unless the loop is in a "
            "CUDA graph."
        )
    if not found.steps_seen:
        notes.append(
            "Whether the trace holds all steps can't be told, since it names no instruction of theirs."
        )
    elif found.steps_seen != found.steps:
        notes.append(
            f"**Most instructions ran {found.steps_seen} times in {found.steps} steps**: the trace is not "
            "complete, or steps are told wrongly, so figures per step are wrong."
        )
    if found.convolutions_seen != found.convolutions:
        notes.append(
            f"{found.convolutions_seen} of the program's {found.convolutions} convolutions are seen in the "
            "trace. The others are missing, or in a CUDA graph whose kernels the trace does not name: leave "
            "--graphs out."
        )
    if not found.convolutions:
        notes.append("The program's text was not found, or has no convolution: kinds are guesses.")
    elif not found.has_scopes:
        notes.append(
            "The program's text does not say what is data augmentation and optimizer, as that of one from "
            "JAX's compilation cache may not: they are in the other kinds."
        )
    if found.guessed:
        notes.append(
            f"For {found.guessed:.1%} of the time the kind is a guess by the name of a library's kernel, "
            "since the trace names no instruction."
        )
    if found.devices > 1:
        notes.append(f"The first of {found.devices} devices.")
    if recording.workload.loop:
        notes.append("Python's calls were traced, which slows the host.")
    return notes


def _kinds(found: Figures) -> str:
    def cells(kind: str, launches: float, ms: float, share: float, mb: float | None) -> tuple[str, ...]:
        moved = ("–", "–") if mb is None or not ms else (f"{mb:.1f}", f"{mb / ms:.0f}")
        return kind, f"{launches:.1f}", f"{ms:.3f}", f"{share:.1%}", *moved

    heads = "kind", "launches per step", "ms per step", "share", "MB per step", "GB/s"
    rows = [cells(*row) for row in found.rows]
    rows.append(cells("**all**", found.launches, found.ms, 1.0, found.mb))
    return "\n## Device time by kind\n\n" + grid.markdown(heads, rows, numbers=True) + "\n"


def _longest(found: Figures) -> str:
    if not found.longest:
        return ""
    heads = ["instruction", "kind", "result", "launches per step", "ms per step", "MB per step", "made by"]
    rows = [
        [
            f"`{i.name}`", i.kind, f"`{i.shape[:MOST_LETTERS]}`", f"{i.launches:.1f}", f"{i.ms:.3f}",
            f"{i.mb:.1f}", f"`{i.origin or 'XLA'}`",
        ]
        for i in found.longest
    ]  # fmt: skip
    if found.device != "CPU":  # where an operation is called as its instruction
        heads.append("kernels")
        for row, i in zip(rows, found.longest, strict=True):
            row.append(", ".join(f"`{kernel[:MOST_LETTERS]}`" for kernel in i.kernels))
    return "\n## The longest instructions\n\n" + grid.markdown(heads, rows) + "\n"


def _idle(found: Figures) -> str:
    names, low = [], ""
    for gaps in found.gaps:
        high = f"{gaps.up_to_us:g} µs"
        names.append(f"over {low}" if gaps.up_to_us == float("inf") else f"{low or 0} to {high}")
        low = high
    rows = [(name, gaps.number, f"{gaps.ms:.3f}") for name, gaps in zip(names, found.gaps, strict=True)]
    return (
        f"\n## Idle device\n\n{found.idle:.1%} of {found.window_ms:.2f} ms, in which "
        f"{found.busy_ms:.2f} ms are busy.\n\n"
        + grid.markdown(("gap", "how many", "ms in all"), rows, numbers=True)
        + "\n"
    )


def _waits(found: Waits, *, python: bool) -> str:
    text = f"\n## Host syncs between dispatches\n\n{found.verdict}\n"
    if found.dispatches:
        text += f"\nA dispatch took the host {found.dispatch_ms:.2f} ms, waits in it included.\n"
    if found.dry:
        text += f"\nThe device stood idle for {found.dry_ms:.2f} ms around those that found an empty queue.\n"
    if found.copies_to_host:
        text += (
            f"\nThe device copied {found.copies_to_host} times to the host, {found.bytes_to_host} bytes.\n"
        )
    if not found.waits:
        return text
    heads = "wait", "in", "how many", "ms in all", "of them let the queue run dry", "idle then, ms"
    unknown = "unknown" if python else "Python was not traced"
    rows = [
        (w.call, w.caller or unknown, w.number, f"{w.ms:.2f}", w.drained, f"{w.idle_ms:.2f}")
        for w in found.waits
    ]
    return text + "\n" + grid.markdown(heads, rows) + "\n"


def _predicted(found: Figures, counted: Counted | None, batch_size: int) -> str:
    head = "\n## Beside the program compiled ahead of time\n\n"
    if counted is None:
        return (
            head
            + "docs/results/accelerators.json has no H100 program of this network, batch and precision.\n"
        )
    mb = counted.bytes_per_image * batch_size / 1e6
    rows = [
        ("instructions that launch something", counted.launches, found.instructions),
        ("kernels and copies per step", "–", f"{found.launches:.1f}"),
        ("MB per step", f"{mb:.0f}", f"{found.mb:.0f}"),
        ("convolutions", counted.convolutions, found.convolutions),
    ]
    return head + grid.markdown(("", "counted for an H100", "here"), rows, numbers=True) + "\n"
