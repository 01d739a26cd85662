"""The flags of `python -m parity speed`, and where its results go."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

from parity.speed import layer_times
from parity.speed.compare import Options, run
from parity.speed.jobs import MEASURES, PRECISIONS
from parity.speed.measurements import FORMAT, Report, from_dict, name_of, render_json
from parity.speed.report import markdown as report_markdown
from parity.speed.report import plot as report_plot
from parity.speed.report import text as report_text
from recipe.output import grid
from recipe.system import files, json_values
from recipe.system.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser. What takes a list takes it with commas."""
    parser.add_argument("--measure", type=words, default=tuple(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--arch", type=words, default=("resnet18",), help="architectures")
    parser.add_argument("--width", type=integer, default=0, help="channels of the first stage; 0: its own")
    parser.add_argument("--precision", type=words, default=PRECISIONS, help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--batch", type=integers, default=(64,), help="batch sizes")
    parser.add_argument("--rounds", type=integer, default=5, help="turns of every contender")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn, at least a step")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--steps-per-dispatch", type=integer, default=0, help="of JAX, beside one")
    parser.add_argument(
        "--contenders", type=words, default=(), help="only those: patterns of names, such as 'JAX*,*NCHW'"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="SECONDS",
        help="leave contenders out that fail, or whose first step takes longer, in place of ending",
    )  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="a thin network, f32, eager, batch 8, two short rounds"
    )
    parser.add_argument(
        "--layers", action="store_true", help="every layer of a train step on its own, beside its least time"
    )
    parser.add_argument("--json", type=files.expanded, metavar="FILE", help="write every number")
    parser.add_argument("--png", type=files.expanded, metavar="FILE", help="write the picture")
    parser.add_argument(
        "--output",
        type=files.expanded,
        metavar="NAME",
        help="write this report into the folder NAME, and all of them to NAME.md; --layers: its tables",
    )


def main(options: argparse.Namespace) -> int:
    """Compare, print the tables, write files; 0 unless something is wrong, which is raised."""
    for path in (options.json, options.png, options.output):
        if path:
            files.check_writable(path)  # told at once, not when everything has been measured
    if options.layers:
        return single_layers(options)
    for report in run(chosen(options), shown(sys.argv[1:])):
        if options.json:
            files.write_text(options.json, render_json(report))
        if options.png:
            report_plot.draw(report, options.png)
        if options.output:
            write(report, options.output)
    print(report_text.render(report))
    return 0


def single_layers(options: argparse.Namespace) -> int:
    """Print a table of layers per network, precision and batch size, and write them."""
    if options.png:
        raise UserError("--layers makes tables only; leave --png out")
    if options.contenders:
        raise UserError("--layers times one setting of PyTorch and all of JAX; leave --contenders out")
    tables = []
    for table in layer_times.measure(chosen(options), shown(sys.argv[1:])):
        tables.append(table)
        print("\n".join([table.title, *grid.aligned(layer_times.render(table)), ""]))
        if options.json:
            content = [dataclasses.asdict(table) for table in tables]
            files.write_text(options.json, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        if options.output:
            path = options.output.with_suffix("") / f"layers-{name_of(table.environment)}.md"
            files.write_text(path, report_markdown.layer_tables(tables))
    return 0


def chosen(options: argparse.Namespace) -> Options:
    """The options that the flags ask for."""
    if options.quick:
        return Options(
            measures=options.measure, archs=options.arch, width=options.width or 8, precisions=("f32",),
            batch_sizes=(8,), rounds=2, seconds=0.05, compiled=False, contenders=options.contenders,
            patience=options.patience,
        )  # fmt: skip
    return Options(
        measures=options.measure,
        archs=options.arch,
        width=options.width,
        precisions=options.precision,
        batch_sizes=options.batch,
        rounds=options.rounds,
        seconds=options.seconds,
        compiled=not options.no_compile,
        steps_per_dispatch=options.steps_per_dispatch,
        contenders=options.contenders,
        patience=options.patience,
    )


def write(report: Report, output: Path) -> None:
    """Write JSON and picture, and the document with all reports beside them."""
    output = output.with_suffix("")
    name = name_of(report.environment)
    files.write_text(output / f"{name}.json", render_json(report))
    report_plot.draw(report, output / f"{name}.png")
    reports = {path.stem: read(path) for path in sorted(output.glob("*.json"), reverse=True)}
    document = output.with_suffix(".md")
    old = document.read_text(encoding="utf-8") if document.exists() else report_markdown.NEW
    measured = report_markdown.render(reports, Path(output.name))
    files.write_text(document, report_markdown.insert(old, measured))


def read(path: Path) -> Report:
    """A report that `render_json` wrote."""
    try:
        content = json_values.read(path)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        return from_dict(content)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what `speed --json` writes: {error}") from error


def shown(arguments: list[str]) -> str:
    """The command as typed, for the report."""
    return shlex.join(["python", "-m", "parity", *arguments])


def words(text: str) -> tuple[str, ...]:
    """What is between commas."""
    return tuple(text.split(","))


def integers(text: str) -> tuple[int, ...]:
    """Integers between commas."""
    return tuple(map(integer, text.split(",")))


def integer(text: str) -> int:
    """A number; its range is checked where it is known."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error
