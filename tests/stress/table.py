"""What the campaign found, as tables in docs/reliability.md: one for each part, between two comments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- stress: begin -->", "<!-- stress: end -->"


@dataclasses.dataclass(frozen=True)
class Row:
    """One kind of fault, and what came of it."""

    what: str  # what was done to the program
    tried: int  # how often
    outcome: str  # what happened, each time


def render(rows: Sequence[Row], conditions: str) -> str:
    """One part's table, below a line that says under which conditions it was made."""
    cells = [
        (row.what, f"{row.tried:,}", row.outcome if row.tried else "not tried: no time was left")
        for row in rows
    ]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    lines = [f"| {' | '.join(row)} |" for row in escaped]
    return "\n".join([conditions, "", "| what | times | what happened |", "|---|--:|---|", *lines])


def insert(page: str, tables: Mapping[str, str], order: Sequence[str]) -> str:
    """A page with these parts' tables in the place of their former ones; those of other parts stay.

    Args:
      page: its text.
      tables: the name of a part → its table.
      order: the names of all parts; what is none of them any more goes.
    """
    before, found, rest = page.partition(BEGIN)
    middle, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    former = dict(re.findall(r"^### `([^`]+)`\n\n(.*?)\n\n(?=### |\Z)", middle.lstrip("\n"), re.S | re.M))
    now = {**former, **tables}
    sections = "".join(f"### `{name}`\n\n{now[name]}\n\n" for name in order if name in now)
    return f"{before}{BEGIN}\n\n{sections}{END}{after}"
