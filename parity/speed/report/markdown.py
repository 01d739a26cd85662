"""The results in a document: the measured part of it is written anew, the words around it stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from parity.speed.layer_times import LayerTable
from parity.speed.layer_times import render as render_layers
from parity.speed.measurements import Report, device_of
from parity.speed.report.text import header, legend, rows, title, verdict
from recipe.output import grid
from recipe.system.errors import UserError

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
LAYERS = """\
Milliseconds: medians of the rounds, for one layer; the last rows are sums over the whole network.
"Arithmetic" is what the operations take at the speed of the fastest matrix product of the same precision,
"memory" what the arrays take, each once, at the speed of a copy. An operation can be faster than its floor:
small arrays stay in the cache, and convolutions may be faster than matrix products. "3×3 /2, 64→128 at 32" is
a convolution of stride 2 from 64 to 128 channels, on 32×32 pixels."""
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
            f"## {device_of(versions)}, Python {versions['python']}, JAX {versions['jax']}",
            f"    {report.command}",
            f"![Images per second of every contender]({folder / name}.png)",
        ]
        for comparison in report.comparisons:
            table = grid.markdown(header(comparison), rows(comparison), numbers=True)
            parts += [f"### {title(comparison)}", table, verdict(comparison)]
        parts.append("\n".join(f"- {note}" for note in (*legend(report), *report.notes)))
        parts.append("; ".join(f"{key}: {value}" for key, value in versions.items() if value) + ".")
    return "\n\n".join(parts)


def layer_tables(tables: Sequence[LayerTable]) -> str:
    """A document with the tables of `parity speed --layers`."""
    versions = tables[-1].environment
    parts = ["# Every layer of a train step on its own", f"    {tables[-1].command}", LAYERS]
    for table in tables:
        speeds = f"Matrix products {table.environment['GEMM peak']}, copies {table.environment['copy']}."
        first, *body = render_layers(table)
        parts += [f"## {table.title}", speeds, grid.markdown(first, body, numbers=True)]
    parts.append("; ".join(f"{key}: {value}" for key, value in versions.items() if value) + ".")
    return "\n\n".join(parts) + "\n"
