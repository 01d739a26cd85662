"""The flags of `python -m parity compare`, and what it writes."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
from pathlib import Path

from parity import flags
from recipe.system import files
from recipe.system.errors import UserError

HIGHEST = 5  # of report.TITLES, which is not imported until the command runs
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    parser.add_argument(
        "pair", metavar="FILE.py[:FUNCTION]", help="a file with a function that returns a parity.Pair"
    )
    parser.add_argument("--levels", default="1-5", metavar="A-B", help="which levels, such as 2 or 1-3")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page")
    parser.add_argument("--map", action="store_true", help="print the mapping of tensors as Python, and end")
    parser.add_argument("--memory", metavar="SIZE", help="what captured values may take, such as 8G")
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the pair's")
    parser.add_argument("--precision", metavar="A,B", help="of f64, f32 and bf16, in place of the pair's")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def main(options: argparse.Namespace) -> int:
    """Compare and report: 0 only if the two compute the same, 1 if they don't."""
    levels = flags.level_range(options.levels, HIGHEST)
    memory = None if options.memory is None else size(options.memory)

    import dataclasses

    from flax_resnet.compilation_cache import keep_programs
    from parity.comparison import api, pair_file
    from parity.comparison.html import render as as_html
    from parity.comparison.json import render as as_json
    from parity.comparison.text import render as as_text
    from parity.report.text import use_colour

    started = time.monotonic()

    def progress(words: str) -> None:
        if not options.quiet:
            print(f"{time.monotonic() - started:6.0f} s  {words}", file=sys.stderr, flush=True)

    keep_programs()
    progress(f"loading {options.pair}")
    pair = pair_file.load(options.pair)
    if options.seed is not None:
        pair = dataclasses.replace(pair, seed=options.seed)
    if options.precision:
        pair = dataclasses.replace(pair, precisions=options.precision.split(","))
    if options.map:
        print(api.compare_pair(pair, levels=(1,), progress=progress).mapping)
        return 0
    outputs = [(options.json, as_json), (options.html, as_html)]
    with contextlib.ExitStack() as stack:
        # opened before the comparison: a path that can't be written must fail now, not after an hour
        opened = [(stack.enter_context(files.atomic_path(path)), render) for path, render in outputs if path]
        report = api.compare_pair(pair, levels=levels, memory=memory, progress=progress)
        for temporary, render in opened:
            temporary.write_text(render(report), encoding="utf-8")
    print(as_text(report, use_colour(sys.stdout)))
    return 0 if report.passed else 1


def size(text: str) -> float:
    """ "8G" → 8·2³⁰ bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise UserError(f"--memory takes a size such as 8G or 500M, not {text!r}")
    return float(found[1]) * UNITS[found[2].upper()]
