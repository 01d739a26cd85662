"""Prove that both engines compute the same, and move checkpoints between them.

python -m parity verify [CHECKPOINT] [--arch NAME|all] [--quick] [--json FILE] [--html FILE]
python -m parity mutants [--json FILE]
python -m parity speed [--arch A,B] [--batch 64,128] [--precision f32,bf16] [--quick] [--json FILE]
python -m parity convert SRC DST [--layout NAME] [--to FORM[:LAYOUT]] [--force] [--no-check]
python -m parity inspect PATH [--layout NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from parity.speed import cli as speed_command
from recipe.architectures import ARCHITECTURES
from recipe.system import files
from recipe.system.errors import UserError
from recipe.training.checkpoints import FOLDER


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for wrong input, 130 when interrupted."""
    try:
        options = parser().parse_args(arguments)
        return options.run(options)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. What was there before is whole.", file=sys.stderr)
        return 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the flags are listed."""
        raise UserError(f"{message}; {self.prog} --help lists what there is")


def parser() -> Parser:
    """The commands and their flags."""
    top = Parser(prog="python -m parity", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="turn a checkpoint of one framework into one of the other")
    convert.set_defaults(run=run_convert)
    convert.add_argument(
        "source", type=expanded, metavar="SRC", help="a checkpoint in any form, or a workdir"
    )
    convert.add_argument(
        "destination", type=expanded, metavar="DST", help="where it goes; for a workdir, a workdir"
    )
    convert.add_argument(
        "--to",
        metavar="FORM[:LAYOUT]",
        help="jax, torch or safetensors, and whose names (torch:torchvision); "
        "else DST's suffix says the form; without one it is jax",
    )
    convert.add_argument("--force", action="store_true", help="replace DST if it exists")
    convert.add_argument("--no-check", action="store_true", help="don't run both networks")
    convert.add_argument("--class-names", metavar="A,B,…", help="where the file of another project has none")
    convert.add_argument("--dataset", help="name of the data that the network was trained on")
    convert.add_argument("--mean", metavar="R,G,B", help="of pixel/255, subtracted from the input")
    convert.add_argument("--std", metavar="R,G,B", help="what the input is then divided by")
    convert.add_argument("--image-size", type=int, metavar="PIXELS", help="that the network was trained on")

    inspect = commands.add_parser("inspect", help="say what a checkpoint is")
    inspect.set_defaults(run=run_inspect)
    inspect.add_argument("path", type=expanded, metavar="PATH")

    verify = commands.add_parser("verify", help="check that both engines compute the same")
    verify.set_defaults(run=run_verify)
    verify.add_argument("path", type=expanded, nargs="?", metavar="CHECKPOINT", help="else random weights")
    verify.add_argument("--arch", default="resnet18", help="without a checkpoint: an architecture, or all")
    verify.add_argument("--stem", default="cifar", help="cifar, cifar_pool or imagenet")
    verify.add_argument("--width", type=natural, default=0, help="channels of the first stage; 0: its own")
    verify.add_argument("--levels", default="1-9", metavar="A-B", help="which levels, such as 2 or 1-6")
    verify.add_argument("--seed", type=natural, default=0, help="draws weights and inputs")
    verify.add_argument("--quick", action="store_true", help="one shape of input, fewer images and steps")
    verify.add_argument(
        "--cpu-kernels",
        choices=("auto", "xla"),
        default="auto",
        help="of JAX, as config.cpu_kernels",
    )
    verify.add_argument("--stop", action="store_true", help="end at the first failure")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    verify.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
    verify.add_argument("--mutants", type=Path, metavar="FILE", help="the page's table, by mutants --json")

    mutants = commands.add_parser("mutants", help="plant mistakes one at a time: verify must find them")
    mutants.set_defaults(run=run_mutants)
    mutants.add_argument("names", nargs="*", metavar="NAME", help="parts of names; all mutants if none")
    mutants.add_argument("--jobs", type=natural, default=1, help="how many at a time")
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    mutants.add_argument("--markdown", type=Path, metavar="FILE", help="write a table")

    speed = commands.add_parser("speed", help="compare the frameworks' step speed")
    speed.set_defaults(run=speed_command.main)
    speed_command.add_flags(speed)

    for command in (convert, inspect, verify):
        command.add_argument("--layout", metavar="NAME", help="whose names the file uses, if they don't tell")
        command.add_argument("--weights", metavar="NAME", help="which weights, in a file that has several")
    return top


def expanded(text: str) -> Path:
    """A path, with ~ for the home folder."""
    return files.expanded(text)


def natural(text: str) -> int:
    """A number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def planted_mutants(path: Path) -> list[dict[str, Any]]:
    """What `mutants --json` wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not what `mutants --json` writes: {error}") from error
    if not isinstance(found, list) or not all(isinstance(row, dict) and "caught_by" in row for row in found):
        raise UserError(f"{path} is not what `mutants --json` writes: it holds no list of mutants")
    return found


def run_convert(options: argparse.Namespace) -> int:
    """`convert`: one checkpoint, or a workdir's latest and best."""
    from parity.convert.convert import convert, convert_run

    settings = {"force": options.force, "check": not options.no_check}
    if (options.source / FOLDER).is_dir():
        for name in ("layout", "to", "weights", "class_names", "dataset", "mean", "std", "image_size"):
            if getattr(options, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} is for one checkpoint, and {options.source} is a workdir: "
                    f"name one of those in {options.source / FOLDER}"
                )
        convert_run(options.source, options.destination, **settings)
        return 0
    changes = {
        "class_names": options.class_names and options.class_names.split(","),
        "dataset": options.dataset,
        "mean": options.mean and numbers("mean", options.mean),
        "std": options.std and numbers("std", options.std),
        "image_size": options.image_size,
    }
    convert(
        options.source,
        options.destination,
        layout=options.layout,
        to=options.to,
        weights=options.weights,
        changes={name: value for name, value in changes.items() if value is not None},
        **settings,
    )
    return 0


def run_inspect(options: argparse.Namespace) -> int:
    """`inspect`."""
    from parity.convert.inspect import inspect

    print(inspect(options.path, options.layout, options.weights))
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """`verify`: 0 only if every check of every network passed."""
    from parity.verify import run as verify
    from parity.verify.report import html as report_html
    from parity.verify.report import json as report_json

    levels = verify.level_range(options.levels)
    settings = {name: getattr(options, name) for name in ("seed", "quick", "cpu_kernels")}
    if options.path:
        cases = [verify.from_checkpoint(options.path, options.layout, options.weights, **settings)]
    else:
        archs = list(ARCHITECTURES) if options.arch == "all" else [options.arch]
        cases = [
            verify.from_description(verify.describe(arch, options.stem, options.width), **settings)
            for arch in archs
        ]
    planted = planted_mutants(options.mutants) if options.mutants else None
    outputs = [(options.json, report_json.render), (options.html, report_html.render)]
    passed = True
    for case in cases:
        suffix = "" if len(cases) == 1 else f"-{case.description.arch}"
        with contextlib.ExitStack() as stack:
            # opened before the checks: a path that can't be written is told at once, not after an hour
            opened = [
                (stack.enter_context(files.atomic_path(path.with_stem(path.stem + suffix))), render)
                for path, render in outputs
                if path
            ]
            report = verify.run(case, levels, stop=options.stop)
            for temporary, render in opened:
                temporary.write_text(render(report, planted), encoding="utf-8")
        passed = passed and report.passed
    return 0 if passed else 1


def run_mutants(options: argparse.Namespace) -> int:
    """`mutants`: 0 only if every one was caught, where and as what it should be."""
    from parity.mutants import run as planting

    if not options.jobs:
        raise UserError("--jobs must be at least 1")

    def show(result: dict[str, Any]) -> None:
        state = "caught" if result["right"] else "WRONG " if result["caught_by"] else "MISSED"
        found = f"{result['caught_by']}: {result['where']}; {result['family']}: {result['cause']}"
        print(f"{state}  {result['name']} ({result['seconds']} s): {found}", flush=True)

    results = planting.run(options.names, options.jobs, show)
    if options.json:
        files.write_text(options.json, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        files.write_text(options.markdown, planting.markdown(results))
    right = sum(result["right"] for result in results)
    print(f"{right} of {len(results)} mutants caught, where and as what they should be")
    return 0 if right == len(results) else 1


def numbers(name: str, text: str) -> list[float]:
    """Three numbers between commas."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise UserError(f"--{name} takes three numbers, one per channel: --{name}=0.5,0.5,0.5")
    return values


if __name__ == "__main__":
    sys.exit(main())
