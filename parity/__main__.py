"""Prove that two networks compute the same, and move checkpoints between the frameworks.

python -m parity compare FILE.py[:FUNCTION] [--map] [--levels A-B] [--json FILE] [--html FILE]
python -m parity describe FILE.py[:FUNCTION] --out FOLDER     the same in three steps, where the frameworks
python -m parity record FILE.py[:FUNCTION] FOLDER             don't install together
python -m parity compare FILE.py[:FUNCTION] --recorded FOLDER
python -m parity verify [CHECKPOINT] [--arch NAME|all] [--quick] [--json FILE] [--html FILE]
python -m parity mutants [--json FILE]
python -m parity speed [--arch A,B] [--batch 64,128] [--precision f32,bf16] [--quick] [--json FILE]
python -m parity convert SRC DST [--layout NAME] [--to FORM[:LAYOUT]] [--force] [--no-check]
python -m parity inspect PATH [--layout NAME]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from parity.comparison import cli as comparison
from parity.comparison.offline import cli as offline
from parity.convert import cli as convert
from parity.mutants import cli as mutants
from parity.speed import cli as speed
from parity.verify import cli as verify
from recipe.system import program
from recipe.system.errors import UserError


class Command(NamedTuple):
    """A command; what it does is imported when it runs, so that --help is quick."""

    name: str
    help: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit status


COMMANDS = (
    Command(
        "convert", "turn a checkpoint of one framework into one of the other",
        convert.add_convert_flags, convert.run_convert,
    ),
    Command("inspect", "say what a checkpoint is", convert.add_inspect_flags, convert.run_inspect),
    Command(
        "compare", "check that any PyTorch and any Flax network compute the same",
        comparison.add_flags, comparison.main,
    ),
    Command(
        "describe", "for frameworks that don't install together, first: describe a PyTorch network",
        offline.add_describe_flags, offline.run_describe,
    ),
    Command(
        "record", "second: run a Flax network on what was described, for compare --recorded",
        offline.add_record_flags, offline.run_record,
    ),
    Command("verify", "check that both engines compute the same", verify.add_flags, verify.main),
    Command(
        "mutants", "plant mistakes one at a time: verify must find them", mutants.add_flags, mutants.main
    ),
    Command("speed", "compare the frameworks' step speed", speed.add_flags, speed.main),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for wrong input, 130 when interrupted."""

    def command() -> int:
        options = parser().parse_args(arguments)
        return options.run(options)

    return program.run(command, interrupted="Interrupted. What was there before is whole.")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the flags are listed."""
        raise UserError(f"{message}; {self.prog} --help lists what there is")


def parser() -> Parser:
    """The commands and their flags."""
    top = Parser(prog="python -m parity", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(command.name, help=command.help)
        added.set_defaults(run=command.run)
        command.add_flags(added)
    return top


if __name__ == "__main__":
    sys.exit(main())
