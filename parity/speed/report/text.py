"""The results as tables: for a terminal, and the same cells for Markdown."""

from __future__ import annotations

from parity.speed.figures import Spread
from parity.speed.jobs import MEASURES
from parity.speed.measurements import Comparison, Report, Timing
from recipe.output import grid

SPEEDS, COSTS = ("", "images/s", "to PyTorch's best", "of GEMM peak"), ("compile", "peak memory")
NONE = "–"


def render(report: Report) -> str:
    """All tables, what they were measured on, and the notes."""
    lines = [" · ".join(f"{name} {value}" for name, value in report.environment.items() if value)]
    for comparison in report.comparisons:
        lines += ["", title(comparison), *grid.aligned([header(comparison), *rows(comparison)])]
        lines.append(verdict(comparison))
    lines += ["", *(f"* {note}" for note in (*legend(report), *report.notes))]
    return "\n".join(lines)


def legend(report: Report) -> list[str]:
    """What the columns are."""
    return [OF_ALL, *([OF_BANDWIDTH] if any(c.bandwidth for c in report.comparisons) else []), OF_COSTS]


OF_ALL = (
    "images/s, ratios, overhead: median over the rounds [quartiles]; a ratio is taken round by round, and "
    "above 1 it is faster than PyTorch's best"
)
OF_BANDWIDTH = (
    "of bandwidth: what moving a step's activations takes at least, at the speed of a copy of memory, as a "
    "share of its time; every operation reads and writes its arrays once, and batch norm, residual and ReLU "
    "are one operation behind the statistics"
)
OF_COSTS = (
    "compile: what the first step took longer than another; peak memory: of the process, compiling included, "
    "or of the device"
)


def title(comparison: Comparison) -> str:
    """The heading of a table."""
    return f"{MEASURES[comparison.measure].capitalize()} · {comparison.title}"


def header(comparison: Comparison) -> tuple[str, ...]:
    """The names of the columns."""
    bandwidth = ("of bandwidth",) if comparison.bandwidth else ()
    loop = ("beyond the steps",) if comparison.measure == "loop" else ()
    return (*SPEEDS, *bandwidth, *COSTS, *loop)


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row per contender, the fastest first."""
    ordered = sorted(comparison.timings, key=lambda timing: -comparison.speed(timing).median)
    return [_row(comparison, timing) for timing in ordered]


def verdict(comparison: Comparison) -> str:
    """The comparison in one sentence."""
    ours, theirs = comparison.best("jax"), comparison.best("torch")
    if not ours or not theirs:
        return "One side alone was timed."
    ratio = comparison.ratio(ours)
    assert ratio is not None
    return f"{ours.name} is at {_spread(ratio, '{:.2f}×')} of PyTorch's best, {theirs.name}."


def _row(comparison: Comparison, timing: Timing) -> tuple[str, ...]:
    speed, ratio, overhead = (
        comparison.speed(timing), comparison.ratio(timing), comparison.overhead(timing)
    )  # fmt: skip
    bandwidth = comparison.share_of_bandwidth(timing)
    row = (
        timing.name,
        _spread(speed, digits(speed.median))
        if timing.whole
        else f"~{digits(speed.median).format(speed.median)}",
        _spread(ratio, "{:.2f}×") if ratio else NONE,
        f"{comparison.share(timing):.0%}",
        *(() if bandwidth is None else (f"{bandwidth:.0%}",)),
        f"{timing.compile_seconds:.1f} s",
        f"{timing.peak_bytes / 2**30:.1f} GiB",
    )
    if comparison.measure == "loop":
        return (*row, _spread(overhead, "{:+.1%}") if overhead else NONE)
    return row


def digits(value: float) -> str:
    """The form of a number: three digits at least."""
    return "{:.0f}" if value >= 100 else "{:.1f}" if value >= 10 else "{:.2f}"


def _spread(values: Spread, form: str) -> str:
    return f"{form.format(values.median)} [{form.format(values.low)}–{form.format(values.high)}]"
