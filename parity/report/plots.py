"""The plots of the page: SVG in the page's colours that shows its numbers where the mouse points."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from parity.report import words
from parity.report.axis import EDGE, RatioAxis, power
from parity.report.markup import tag
from parity.result import Check, Finding

WIDTH = 740
ROW = 15  # height of a layer's row
CHARACTER = 6.4  # width of one in a label
LONGEST_LABEL = 32
PANEL_GAP = 22
MOST_ABREAST = 3
STEP = re.compile(r"step (\d+)")


def strip(check: Check, axis: RatioAxis) -> Element:
    """All findings of a check in one line."""
    middle, height = 9.0, 18
    # failures last, so that no other dot covers them
    marks = [_mark(f, check, axis(f.ratio), middle) for f in sorted(check.findings, key=lambda f: f.ratio)]
    width = axis.right
    return tag(
        "svg", *axis.background(0, height), *marks, class_="strip", width=width, height=height,
        viewBox=f"0 0 {width:g} {height}", role="img", aria_label="error over budget of every comparison",
    )  # fmt: skip


def has_layers(check: Check) -> bool:
    """Whether a plot with a row per finding says more than the table does."""
    return len(check.findings) > 1 and any(f.allowed > 0 and f.error != 0 for f in check.findings)


def is_trajectory(check: Check) -> bool:
    """Whether the findings are steps of a run."""
    return len(check.findings) > 1 and all(STEP.fullmatch(f.where) for f in check.findings)


def places(check: Check) -> list[str]:
    """Where something was compared, each once: inputs of several sizes make several findings of a layer."""
    return list(dict.fromkeys(finding.where for finding in check.findings))


def abreast(checks: Sequence[Check]) -> list[list[Check]]:
    """Put checks of the same layers side by side, a few at a time."""
    groups: dict[tuple[str, ...], list[Check]] = {}
    for check in checks:
        groups.setdefault(tuple(places(check)), []).append(check)
    parts = []
    for group in groups.values():
        count = math.ceil(len(group) / MOST_ABREAST)
        ends = [len(group) * i // count for i in range(count + 1)]
        parts += [group[start:end] for start, end in itertools.pairwise(ends)]
    return parts


def together(checks: Sequence[Check]) -> list[list[Check]]:
    """Put trajectories into common plots, with each precision once in a plot."""
    plots: list[list[Check]] = []
    for check in checks:
        free = (plot for plot in plots if check.precision not in {other.precision for other in plot})
        plot = next(free, None)
        if plot is None:
            plots.append(plot := [])
        plot.append(check)
    return plots


def layers(checks: Sequence[Check]) -> Element:
    """Error over budget with a row per layer, for checks of the same layers side by side.

    A layer that was compared for several inputs has several dots.
    """
    rows = places(checks[0])
    names = [words.shorten(words.printable(where), LONGEST_LABEL) for where in rows]
    label = max(map(len, names)) * CHARACTER + 18
    width = (WIDTH - label - PANEL_GAP * (len(checks) - 1)) / len(checks)
    titles = [_title_lines(check, width) for check in checks]
    top = 13.0 * max(map(len, titles)) + 20
    bottom = top + ROW * len(names)
    everything = [finding for check in checks for finding in check.findings]
    axes = [
        RatioAxis(everything, label + i * (width + PANEL_GAP), label + i * (width + PANEL_GAP) + width)
        for i in range(len(checks))
    ]
    drawing: list[Element] = []
    for axis, lines in zip(axes, titles, strict=True):
        drawing += [
            tag("text", line, class_="title", x=axis.left, y=12.0 + 13 * i) for i, line in enumerate(lines)
        ]
        drawing += [*axis.background(top, bottom), *axis.labels(top - 5), *axis.labels(bottom + 12)]
    firsts = [check.first_failure for check in checks]
    for row, (where, name) in enumerate(zip(rows, names, strict=True)):
        y = top + ROW * (row + 0.5)
        found = [[f for f in check.findings if f.where == where] for check in checks]
        failed = any(finding.ratio > 1 for findings in found for finding in findings)
        first = any(
            finding is other for findings, other in zip(found, firsts, strict=True) for finding in findings
        )
        cells = [
            tag(
                "g",
                tag(
                    "title",
                    f"{where}: {'; '.join(map(words.of_budget, findings))}, {check.name}, {check.precision}",
                ),
                tag("rect", class_="hit", x=axis.left, y=y - ROW / 2, width=width, height=ROW),
                *(_mark(f, check, axis(f.ratio), y) for f in findings),
            )
            for findings, check, axis in zip(found, checks, axes, strict=True)
        ]
        drawing.append(
            tag(
                "g",
                tag("text", ("▸ " if first else "") + name, class_="label bad" if failed else "label",
                    x=label - 8, y=y + 3.5, text_anchor="end"),
                *cells,
                class_="row",
            )
        )  # fmt: skip
    return _svg(drawing, bottom + 18, "error over budget, a row per layer")


def trajectory(checks: Sequence[Check]) -> Element:
    """Error (a line with dots) and budget (dashed) against the steps, a colour per precision."""
    left, right, top, bottom = 48.0, WIDTH - 46.0, 26.0, 286.0
    steps = sorted({_step(finding) for check in checks for finding in check.findings})
    values = [v for c in checks for f in c.findings for v in (f.error, f.allowed) if 0 < v < math.inf]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(math.ceil(math.log10(max(values, default=1))), low + 1)

    def x(step: int) -> float:
        return left + (right - left) * (step - steps[0]) / (steps[-1] - steps[0] or 1)

    def y(value: float) -> float:
        if not math.isfinite(value):
            return top - EDGE  # above it
        if value == 0:
            return bottom + EDGE  # below the logarithmic part
        return bottom - (bottom - top) * (math.log10(value) - low) / (high - low)

    drawing = [
        tag("text", text, class_="tick", x=left - 6, y=height + 3.5, text_anchor="end")
        for text, height in (("∞", y(math.inf)), ("0", y(0)))
    ]
    for decade in range(low, high + 1):
        height = y(10.0**decade)
        drawing.append(tag("line", class_="grid", x1=left, x2=right, y1=height, y2=height))
        if decade % math.ceil((high - low) / 9) == 0:
            drawing.append(
                tag("text", power(decade), class_="tick", x=left - 6, y=height + 3.5, text_anchor="end")
            )
    for step in _ticks(steps):
        drawing.append(tag("text", str(step), class_="tick", x=x(step), y=bottom + 31, text_anchor="middle"))
    drawing.append(
        tag("text", "step", class_="tick", x=(left + right) / 2, y=bottom + 45, text_anchor="middle")
    )
    ends = _apart([y(check.findings[-1].error) for check in checks], 12)
    for check, end in zip(checks, ends, strict=True):
        kind = f"p-{check.precision}"
        places = [(x(_step(f)), f) for f in check.findings]
        for allowed in (False, True):
            line = [(at, f.allowed if allowed else f.error) for at, f in places]
            path = _path([(at, y(value) if 0 < value < math.inf else math.nan) for at, value in line])
            drawing.append(tag("path", class_=f"{kind} {'dashed' if allowed else 'line'}", d=path))
        drawing += [_mark(f, check, at, y(f.error), 2.2) for at, f in places]
        drawing.append(tag("text", check.precision, class_=f"end {kind}", x=right + 7, y=end + 4))
    half = (right - left) / max(len(steps) - 1, 1) / 2
    by_step = [{_step(finding): finding for finding in check.findings} for check in checks]
    for step in steps:
        lines = [
            f"{check.precision}: {words.of_budget(found[step])}"
            for check, found in zip(checks, by_step, strict=True)
            if step in found
        ]
        drawing.append(
            tag(
                "g",
                tag("title", f"step {step} · {' · '.join(lines)}"),
                tag(
                    "rect", class_="hit", x=x(step) - half, y=top, width=2 * half, height=bottom + EDGE - top
                ),
            )
        )
    return _svg(drawing, bottom + 50, "error and budget against the step")


def _mark(finding: Finding, check: Check, x: float, y: float, radius: float = 3.4) -> Element:
    """A dot; over the budget a diamond; a cross for what is not finite: different without colour, too."""
    if finding.ratio <= 1:
        return tag("circle", class_=f"dot p-{check.precision}", cx=x, cy=y, r=radius)
    r = radius * 1.5
    if math.isfinite(finding.error) and math.isfinite(finding.allowed):
        return tag("path", class_="bad", d=f"M{x - r:.1f} {y:.1f}l{r} {-r}l{r} {r}l{-r} {r}z")
    r *= 0.8
    cross = f"M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}"
    return tag("path", class_="bad cross", d=cross)


def _title_lines(check: Check, width: float) -> list[str]:
    """The name of a check and its precision in as many lines as a panel's width needs, three at most."""
    lines, room = [""], int(width / CHARACTER)
    for word in f"{words.printable(check.name)} ({check.precision})".split():
        if len(lines[-1]) + len(word) + 1 > room and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    if len(lines) > 3:
        lines = [*lines[:2], f"… ({check.precision})"]
    return [words.shorten(line, room) for line in lines]


def _svg(drawing: Sequence[Element], height: float, label: str) -> Element:
    size = f"0 0 {WIDTH} {height:g}"
    return tag("svg", *drawing, viewBox=size, width=WIDTH, height=f"{height:g}", role="img", aria_label=label)


def _path(points: Sequence[tuple[float, float]]) -> str:
    """A line that breaks where a height is NaN."""
    parts, pen = [], "M"
    for x, y in points:
        if math.isnan(y):
            pen = "M"
        else:
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
    return "".join(parts)


def _apart(heights: Sequence[float], distance: float) -> list[float]:
    """Move labels down until none covers another."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=lambda i: placed[i])
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + distance)
    return placed


def _ticks(steps: Sequence[int]) -> list[int]:
    """At most about ten round step numbers."""
    spacings = (digit * 10**decade for decade in itertools.count() for digit in (1, 2, 5))
    spacing = next(s for s in spacings if (steps[-1] - steps[0]) / s <= 10)
    return [step for step in range(steps[0], steps[-1] + 1) if step % spacing == 0]


def _step(finding: Finding) -> int:
    match = STEP.fullmatch(finding.where)
    assert match is not None
    return int(match[1])
