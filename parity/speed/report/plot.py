"""The results as one picture: a panel per comparison, a bar per contender."""

from __future__ import annotations

from pathlib import Path

from parity.speed.jobs import MEASURES
from parity.speed.measurements import Comparison, Report, device_of
from parity.speed.report.text import NONE, digits
from recipe.output import plots
from recipe.system.files import atomic_path

COLOURS = {"jax": "#0072B2", "torch": "#D55E00"}  # Okabe and Ito: told apart by colour-blind eyes
FAINT = 0.45  # of those that are not their side's best
PANEL_WIDTH, BAR_HEIGHT, LINE_HEIGHT = 5.2, 0.34, 0.2  # inches


def draw(report: Report, path: Path) -> None:
    """Write the picture as PNG: a row of panels per network, precision and batch, a column per measure."""
    from matplotlib.figure import Figure

    measures = [m for m in MEASURES if any(c.measure == m for c in report.comparisons)]
    subjects = list(dict.fromkeys(c.title for c in report.comparisons))
    found = {(c.title, c.measure): c for c in report.comparisons}
    bars = [max(len(c.timings) for c in report.comparisons if c.title == subject) for subject in subjects]
    versions = report.environment
    width = PANEL_WIDTH * len(measures)
    title = plots.wrapped(
        f"JAX {versions['jax']} (blue) and PyTorch {versions['torch']} (orange), images per second\n"
        f"{device_of(versions)}, {versions['CPUs']} CPUs\n"
        "medians with quartiles; × is the ratio to PyTorch's best, round by round",
        width,
    )
    height = LINE_HEIGHT * (title.count("\n") + 1) + 0.4 + sum(1.0 + BAR_HEIGHT * n for n in bars)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(subjects), len(measures), squeeze=False, height_ratios=[1 + n for n in bars])
    for row, subject in enumerate(subjects):
        for column, measure in enumerate(measures):
            comparison = found.get((subject, measure))
            if comparison:
                _panel(panels[row, column], comparison)
            else:
                panels[row, column].set_axis_off()
    figure.suptitle(title, fontsize=plots.TITLE_SIZE, parse_math=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")


def _panel(axes, comparison: Comparison) -> None:  # type: ignore[no-untyped-def]
    ordered = sorted(comparison.timings, key=lambda timing: comparison.speed(timing).median)
    best = [comparison.best(side) for side in COLOURS]
    longest = max(comparison.speed(timing).high for timing in ordered)
    for place, timing in enumerate(ordered):
        speed, ratio = comparison.speed(timing), comparison.ratio(timing)
        axes.barh(
            place,
            speed.median,
            height=0.7,
            color=COLOURS[timing.side],
            alpha=1.0 if timing in best else FAINT,
            xerr=[[speed.median - speed.low], [speed.high - speed.median]],
            error_kw={"ecolor": "#333333", "elinewidth": 1.2, "capsize": 2},
        )
        text = f"{digits(speed.median).format(speed.median)}   {f'{ratio.median:.2f}×' if ratio else NONE}"
        axes.text(
            speed.high + 0.015 * longest, place, text, va="center", fontsize=9,
            fontweight="bold" if timing in best else "normal",
        )  # fmt: skip
    axes.set_yticks(range(len(ordered)), [timing.name for timing in ordered], fontsize=9)
    axes.set_xlim(0, 1.32 * longest)  # the labels' room
    axes.set_title(f"{MEASURES[comparison.measure]}\n{comparison.title}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
