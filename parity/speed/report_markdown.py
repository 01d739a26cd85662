"""The results in a document: the measured part of it is written anew, the words around it stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parity.speed.report_text import LEGEND, header, rows, title, verdict
from parity.speed.results import Report
from recipe.errors import UserError

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
NEW = f"# Step speed, compared fairly\n\n{BEGIN}\n{END}\n"


def insert(document: str, measured: str) -> str:
    """Replace what is between the marks.

    Raises:
      UserError: if the marks are not there.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the document has no place for what was measured: lines with {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{measured.strip()}\n\n{END}{after}"


def render(reports: Mapping[str, Report], folder: Path) -> str:
    """A section per report: command, tables, picture, environment, notes.

    Args:
      reports: by name, which is that of its files in `folder`.
      folder: relative to the document.
    """
    parts = []
    for name, report in reports.items():
        versions = report.environment
        parts += [
            f"## Python {versions['python']}, JAX {versions['jax']}, PyTorch {versions['torch']}",
            f"    {report.command}",
            f"![Images per second of every contender]({folder / name}.png)",
        ]
        for comparison in report.comparisons:
            first, *body = [header(comparison), *rows(comparison)]
            table = [first, ("---",) + ("--:",) * (len(first) - 1), *body]
            lines = [f"| {' | '.join(cells)} |" for cells in table]
            parts += [f"### {title(comparison)}", "\n".join(lines), verdict(comparison)]
        parts.append("\n".join(f"- {note}" for note in (*LEGEND, *report.notes)))
        parts.append("; ".join(f"{key}: {value}" for key, value in versions.items() if value) + ".")
    return "\n\n".join(parts)
