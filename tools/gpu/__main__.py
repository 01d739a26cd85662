"""python -m tools.gpu: everything that is worth measuring on a borrowed NVIDIA GPU, part by part.

What has its result is skipped, so the same command goes on where the last one was stopped. Results are JSON
files in --output, a page of them is docs/results/gpu.md.

python -m tools.gpu [--part NAME]… [--output FOLDER] [--minutes M] [--again] [--rehearse]
python -m tools.gpu --page                     # the page alone, of the results that there are
python -m tools.gpu pack TFDS_FOLDER OUT       # CIFAR-10 in pieces of at most 50 MB, to be carried there
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from parity.__main__ import Parser
from recipe.system import files, json_values, program
from recipe.system.errors import UserError, choice
from tools.gpu import card, data, environment, pack, page
from tools.gpu.commands import ROOT
from tools.gpu.parts import PARTS
from tools.gpu.results import Results
from tools.gpu.session import Session, run

PAGE = ROOT / "docs" / "results" / "gpu.md"
LOOK_SECONDS = 180.0  # that versions and devices may take: the frameworks' first imports are slow


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is missing: 0 if nothing is missing any more, 1 if something is, 2 for wrong input."""

    def command() -> int:
        options = parser().parse_args(arguments)
        if options.command == "pack":
            return packed(options)
        return measured(options)

    return program.run(
        command, interrupted="Interrupted. What was measured is kept; the same command goes on."
    )


def parser() -> argparse.ArgumentParser:
    """The flags."""
    top = Parser(
        prog="python -m tools.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = top.add_argument
    add("--part", action="append", default=[], metavar="NAME", help=f"of {', '.join(PARTS)}; all unless told")
    add(
        "--output", type=folder, default=ROOT / "runs" / "gpu", metavar="FOLDER",
        help="results, and in its folder work the runs; runs/gpu unless told",
    )  # fmt: skip
    add(
        "--copy", type=folder, metavar="FOLDER",
        help="where results and page are copied as they come; $OUT/gpu where OUT is set, else nowhere",
    )  # fmt: skip
    add(
        "--packed", type=folder, default=ROOT / "runs" / "packed", metavar="FOLDER",
        help="CIFAR-10 in pieces, where $TFDS_DATA_DIR holds none; runs/packed unless told",
    )  # fmt: skip
    add("--minutes", type=minutes, default=math.inf, help="of the whole call; without end unless told")
    add("--part-minutes", type=minutes, default=8.0, help="of a part in a call; 8 unless told")
    add("--again", action="store_true", help="do the parts again, from the beginning")
    add("--rehearse", action="store_true", help="everything tiny and on the CPU, whatever there is")
    add("--page", action="store_true", help="measure nothing: write the page")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    packing = commands.add_parser("pack", help="CIFAR-10's prepared folder in pieces of at most 50 MB")
    packing.add_argument("folder", type=folder, help="that holds cifar10/<version>")
    packing.add_argument("out", type=folder, help="the folder of the pieces")
    return top


def folder(text: str) -> Path:
    """A folder by its whole path: programs that get it run in the project's own."""
    return files.expanded(text).absolute()


def minutes(text: str) -> float:
    """A positive number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def packed(options: argparse.Namespace) -> int:
    """Pack, and list the pieces."""
    for path in pack.pack(options.folder, options.out):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def measured(options: argparse.Namespace) -> int:
    """Measure what is missing, and write the page."""
    chosen = [PARTS[choice("part", name, PARTS)] for name in dict.fromkeys(options.part)] or [*PARTS.values()]
    out = files.variable("OUT")
    copy = options.copy or (out and out / "gpu")
    results = Results(options.output, rehearsal=options.rehearse, copy=copy)
    complete = True
    if not options.page:
        begun = time.monotonic()
        found = card.REHEARSAL if options.rehearse else card.find()
        signal.signal(signal.SIGTERM, _interrupt)
        if options.again:
            results.forget(part.name for part in chosen)
            for part in chosen:
                files.remove(options.output / "work" / part.name)
        this = Session(
            results,
            found,
            {"GPU": found.name, "memory": found.memory, "driver": found.driver},
            functools.cache(lambda: data.find(options.packed, options.output / "work" / "tfds")),
            60 * options.part_minutes,
            begun + 60 * options.minutes,
        )
        this = looked(this)
        for part in chosen:
            complete = run(part, this) and complete
            write_page(results)
    write_page(results)
    return 0 if complete else 1


def looked(this: Session) -> Session:
    """The session with versions and devices.

    Raises:
      UserError: if a framework does not compute on the GPU, or can't be imported.
    """
    file = this.work / "environment.json"
    files.remove(file)
    done = this.python("environment", ["-m", "tools.gpu.environment", str(file)], LOOK_SECONDS)
    if done.problem:
        raise UserError(f"the frameworks can't be used: {done.problem}")
    facts = json_values.read(file)
    if not this.rehearsal:
        environment.check(facts, this.card.name)
    own = {name: value for name, value in this.facts.items() if value}
    return dataclasses.replace(this, facts=own | facts)


def write_page(results: Results) -> None:
    """Write the page of what there is: beside the results, and a GPU's into docs/."""
    if not any(results.kept(name) for name in PARTS):
        return
    text = page.render(results, [*PARTS.values()])
    results.write_text("gpu.md", text)
    if not results.rehearsal:
        files.write_text(PAGE, text)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End as after Ctrl-C, so that the program under way is ended as well."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
