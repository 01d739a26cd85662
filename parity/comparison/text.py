"""The report for a terminal: differences by cause, then what was compared, then what was not."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from parity.comparison.findings import FLOAT32_SIZED, LESS_EXACT
from parity.comparison.report import CompareReport, Difference
from parity.report import words
from parity.report.text import BOLD, DIM, GREEN, RED, WIDTH

SHOWN = 3  # places of a difference


def render(report: CompareReport, colour: bool = False) -> str:
    """The whole report; its last line is the verdict."""

    def paint(text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[m" if colour else text

    lines = _wrap(report.subject, 0)
    environment = " · ".join(f"{name} {value}" for name, value in report.environment.items())
    lines += [paint(line, DIM) for line in _wrap(environment, 0)]
    for title, found, code in (
        ("Different", report.differences, RED),
        ("Less exact: the same function, by a formula that rounds more; no failure", report.less_exact, BOLD),
        ("Allowed", report.allowed, BOLD),
    ):
        if found:
            lines += ["", paint(title, code)]
            for number, difference in enumerate(found, 1):
                lines += _difference(number, difference)
    lines += ["", paint("Compared", BOLD)]
    width = max([len(check.name) for check in report.checks] or [0])
    for check in report.checks:
        worst = check.worst
        verdict = paint("same", GREEN) if check.passed else paint("DIFFERENT", RED)
        where = words.shorten(words.printable(worst.where), 40) if worst.error else "–"
        lines.append(
            f"  {check.level} {check.name:<{width}}  {check.precision:<5} {len(check.findings):>5}  "
            f"{words.margin(worst):>10}  {where:<40}  {verdict}"
        )
    for title, texts in listed(report):
        lines += ["", paint(title, RED if texts is report.undone else BOLD)]
        for text in texts:
            lines += _wrap(f"- {text}", 2)
    lines += ["", paint(verdict_of(report), GREEN if report.passed else RED)]
    return "\n".join(lines)


def verdict_of(report: CompareReport) -> str:
    """The report in one sentence."""
    compared = sum(len(check.findings) for check in report.checks)
    if not report.checks:
        return "NOT the same: nothing was compared"
    if report.passed or report.incomplete:
        less = report.count(LESS_EXACT)
        but = f", but {less} less exact" if less else ""
        allowed = sum(len(one.places) for one in report.allowed)
        but += f"; {words.plural(allowed, 'place')} different and allowed" if allowed else ""
        count = words.plural(compared, "comparison")
        start = "NOT all compared, the same in the rest" if report.incomplete else "The same"
        return f"{start}: {count}, all within budget{but}. {report.seconds:.0f} s"
    causes, first = len(report.differences), report.differences[0] if report.differences else None
    at = f", first at {words.shorten(words.printable(first.first.where), 60)}" if first else ""
    return f"NOT the same: {words.plural(causes, 'difference')}{at}. {report.seconds:.0f} s"


def listed(report: CompareReport) -> list[tuple[str, Sequence[str]]]:
    """What is no comparison, under titles."""
    found = (("NOT compared", report.undone), ("Not looked at", report.unseen), ("Notes", report.notes))
    return [(title, texts) for title, texts in found if texts]


def heading(difference: Difference) -> str:
    """A difference in one line: its cause and how many places."""
    likely = "likely " if difference.guess else ""
    count = f" · {words.plural(len(difference.places), 'place')}" if len(difference.places) > 1 else ""
    return f"{difference.words} [{likely}{difference.family}]{count}"


def _difference(number: int, difference: Difference) -> list[str]:
    lines = _wrap(f"{number}. {heading(difference)}", 2)
    for one in difference.places[:SHOWN]:
        kind = f" ({one.kind})" if one.kind else ""
        size = "" if one.precision == "exact" else (
            f": off by {words.number(one.error)} of {words.number(one.size)}, allowed "
            f"{words.number(one.allowed)}, "
            f"{one.precision}"
        )  # fmt: skip
        verdict = f", {one.verdict}" if one.verdict in (FLOAT32_SIZED,) else ""
        lines += _wrap(f"{_where(one.what)} {one.torch}{kind}{_other(one.torch, one.flax)}{size}{verdict}", 5)
    left = len(difference.places) - SHOWN
    if left > 0:
        lines.append(f"     and {left} more")
    return lines


def _where(what: str) -> str:
    return {
        "between": "before", "layer": "in", "layer, backwards": "backwards through",
        "between, backwards": "backwards, behind", "gradient": "gradient of", "input gradient": "gradient of",
        "statistic": "statistic", "output": "at", "loss": "the", "tensor": "tensor", "update": "update of",
        "dropout": "dropout at",
    }[what]  # fmt: skip


def _other(torch: str, flax: str) -> str:
    return f" ~ {flax}" if flax and flax != torch else ""


def _wrap(text: str, indent: int) -> list[str]:
    first, later = " " * indent, " " * (indent + 3)
    return textwrap.wrap(words.printable(text), WIDTH, initial_indent=first, subsequent_indent=later)
