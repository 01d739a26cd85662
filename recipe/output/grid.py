"""Rows of cells as text: for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[object]  # cells; what str makes of them is shown


def aligned(rows: Sequence[Row]) -> list[str]:
    """One line per row, columns as wide as their widest cell: the first flush left, the others flush right.

    Raises:
      ValueError: if rows are of different lengths.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]


def markdown(header: Row, rows: Sequence[Row], *, numbers: bool = False) -> str:
    """A table without a line break at its end. With `numbers`, all columns but the first are flush right."""
    first, others = "---", "--:" if numbers else "---"
    rule = [first, *[others] * (len(header) - 1)]
    return "\n".join(markdown_row(row) for row in (header, rule, *rows))


def markdown_row(cells: Row) -> str:
    """One line of a table. A bar within a cell would end it, so another sign (∣) stands there."""
    return f"| {' | '.join(str(cell).replace('|', '∣') for cell in cells)} |"
