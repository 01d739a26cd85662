"""What the flags of several commands share; the commands' own are in their cli.py files."""

from __future__ import annotations

import argparse


def natural(text: str) -> int:
    """A number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def add_source_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that say how to read a checkpoint: whose names it uses, and which of its weights count."""
    parser.add_argument("--layout", metavar="NAME", help="whose names the file uses, if they don't tell")
    parser.add_argument("--weights", metavar="NAME", help="which weights, in a file that has several")
