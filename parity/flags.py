"""What the flags of several commands share; the commands' own are in their cli.py files."""

from __future__ import annotations

import argparse

from recipe.system import files
from recipe.system.errors import UserError


def natural(text: str) -> int:
    """A number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def file_and_function(text: str) -> str:
    """FILE.py[:FUNCTION] as it is; a `UserError` for an address, whose colon stands before no function."""
    files.check_local(text)
    return text


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how to read a checkpoint: whose names it uses, and which of its weights count."""
    parser.add_argument("--layout", metavar="NAME", help="whose names the file uses, if they don't tell")
    parser.add_argument("--weights", metavar="NAME", help="which weights, in a file that has several")


def level_range(text: str, highest: int) -> list[int]:
    """ "2" → [2], "1-6" → [1, …, 6]; levels count from 1 to `highest`."""
    first, _, last = text.partition("-")
    try:
        levels = list(range(int(first), int(last or first) + 1))
    except ValueError:
        levels = []
    if not levels or levels[0] < 1 or levels[-1] > highest:
        raise UserError(f"--levels takes a level or a range from 1 to {highest}, not {text!r}")
    return levels
