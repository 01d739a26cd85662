"""The report for a terminal."""

from __future__ import annotations

import itertools
import os
import textwrap
from typing import TextIO

from parity.report import words
from parity.result import Check, Report

WIDTH = 110
FIXED = 51  # what a line needs besides the names of the check and of its worst finding
SHORTEST_WHERE = 20
NOTHING = "nothing compared"
GREEN, RED, BOLD, DIM = "32", "1;31", "1", "2"


def use_colour(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: a terminal that understands it, of a user who wants it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def render(report: Report, colour: bool = False) -> str:
    """The summary: a line per check with its worst finding, the first finding and cause below a failure.

    Its last line is the verdict. No line has more than `WIDTH` characters.
    """
    page = _Page(report, colour)
    lines = _wrap(report.subject, 0)
    environment = " · ".join(f"{name} {value}" for name, value in report.environment.items())
    lines += [page.paint(line, DIM) for line in _wrap(environment, 0)]
    if report.checks:
        lines += ["", page.paint(page.header(), DIM)]
    for level, checks in itertools.groupby(report.checks, lambda check: check.level):
        lines.append(page.paint(f"{level} {report.titles[level]}", BOLD))
        for check in checks:
            lines += page.check(check)
    lines.append("")
    pair = words.closest(report)
    if report.passed and pair and pair[1].error:
        check, finding = pair
        at = f"level {check.level}, {check.name}, {check.precision}, {finding.where}"
        lines += _wrap(f"Closest to its budget ({words.margin(finding)}): {at}. {report.seconds:.0f} s.", 0)
    lines.append(page.paint(words.verdict(report), GREEN if report.passed else RED))
    return "\n".join(lines)


class _Page:
    """The widths and colours that the lines share."""

    def __init__(self, report: Report, colour: bool):
        self._colour = colour
        names = [len(words.printable(check.name)) for check in report.checks] or [0]
        wheres = [len(words.printable(check.worst.where)) for check in report.checks if check.findings] or [0]
        self._where = min(max(wheres), max(SHORTEST_WHERE, WIDTH - FIXED - max(names)))
        self._where = max(self._where, len(NOTHING))
        self._name = max(min(max(names), WIDTH - FIXED - self._where), len("check"))

    def paint(self, text: str, code: str) -> str:
        """Text in a colour."""
        return f"\033[{code}m{text}\033[m" if self._colour else text

    def header(self) -> str:
        """Titles of the columns."""
        return self._row("", "check", "", "worst at", "error", "allowed", "margin")

    def check(self, check: Check) -> list[str]:
        """The line of a check, and what explains its failure."""
        if not check.findings:
            return [self._row(str(check.level), check.name, check.precision, NOTHING, "", "", "").rstrip()]
        worst = check.worst
        line = self._row(
            str(check.level), check.name, check.precision, worst.where if worst.error else "–",
            words.number(worst.error), words.number(worst.allowed), words.margin(worst),
        )  # fmt: skip
        first = check.first_failure
        if first is None:
            return [f"{line}  {self.paint('less exact' if words.less_exact(worst) else 'pass', GREEN)}"]
        failed = len(words.failures(check))
        explanation = [
            *_wrap(f"First in {first.where}: {words.of_budget(first, check.unit)}; {failed} of "
                   f"{words.plural(len(check.findings), 'comparison')} fail.", 5),
            *_wrap(f"Likely cause: {words.likely_cause(check)}", 5),
        ]  # fmt: skip
        return [f"{line}  {self.paint('FAIL', RED)}", *(self.paint(text, RED) for text in explanation)]

    def _row(self, level: str, name: str, precision: str, where: str, *numbers: str) -> str:
        error, allowed, margin = numbers
        name = words.shorten(words.printable(name), self._name)
        where = words.shorten(words.printable(where), self._where)
        return (
            f"  {level:1} {name:<{self._name}}  {precision:<5}  {where:<{self._where}}"
            f"  {error:>8}  {allowed:>8}  {margin:>10}"
        )


def _wrap(text: str, indent: int) -> list[str]:
    """Lines of a paragraph; the lines after the first are two further in."""
    first, later = " " * indent, " " * (indent + 2)
    return textwrap.wrap(words.printable(text), WIDTH, initial_indent=first, subsequent_indent=later)
