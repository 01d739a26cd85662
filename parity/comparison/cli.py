"""The flags of `python -m parity compare`, and what it writes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable
from typing import Any

from parity import flags
from parity.comparison.levels import ALL
from parity.comparison.memory import size
from parity.comparison.progress import Progress
from recipe.system import files


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    parser.add_argument(
        "pair", type=flags.file_and_function, metavar="FILE.py[:FUNCTION]",
        help="a file with a function that returns a parity.Pair",
    )  # fmt: skip
    parser.add_argument(
        "--recorded", type=files.expanded, metavar="FOLDER",
        help="compare with the runs in a folder of describe and record; FUNCTION returns a parity.TorchHalf",
    )  # fmt: skip
    parser.add_argument("--levels", default="1-5", metavar="A-B", help="which levels, such as 2 or 1-3")
    parser.add_argument("--json", type=files.expanded, metavar="FILE", help="write every number")
    parser.add_argument("--html", type=files.expanded, metavar="FILE", help="write a page")
    parser.add_argument("--map", action="store_true", help="print the mapping of tensors as Python, and end")
    parser.add_argument("--memory", metavar="SIZE", help="what captured values may take, such as 8G")
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the pair's")
    parser.add_argument("--precision", metavar="A,B", help="of f64, f32 and bf16, in place of the pair's")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def main(options: argparse.Namespace) -> int:
    """Compare and report: 0 if the two compute the same, 1 if not, 2 if not all could be compared."""
    levels = flags.level_range(options.levels, max(ALL))
    memory = None if options.memory is None else size(options.memory)

    import dataclasses

    from parity.comparison import api, pair_file
    from parity.comparison.html import render as as_html
    from parity.comparison.json import render as as_json
    from parity.comparison.text import render as as_text
    from parity.report.text import use_colour

    progress = Progress(options.quiet)
    progress(f"loading {options.pair}")
    pair: Any
    compare: Callable[..., Any]
    if options.recorded:
        pair = pair_file.load_torch(options.pair)
        compare = functools.partial(api.compare_recorded, folder=options.recorded)
    else:
        from flax_resnet.compilation_cache import keep_programs
        from flax_resnet.runtime import start_backend

        start_backend()
        keep_programs()
        pair = pair_file.load(options.pair)
        compare = api.compare_pair
    if options.seed is not None:
        pair = dataclasses.replace(pair, seed=options.seed)
    if options.precision:
        pair = dataclasses.replace(pair, precisions=options.precision.split(","))
    if options.map:
        print(compare(pair, levels=(1,), progress=progress).mapping)
        return 0
    outputs = [(options.json, as_json), (options.html, as_html)]
    with contextlib.ExitStack() as stack:
        # opened before the comparison: a path that can't be written must fail now, not after an hour
        opened = [(stack.enter_context(files.atomic_path(path)), render) for path, render in outputs if path]
        report = compare(pair, levels=levels, memory=memory, progress=progress)
        for temporary, render in opened:
            temporary.write_text(render(report), encoding="utf-8")
    print(as_text(report, use_colour(sys.stdout)))
    return 0 if report.passed else 2 if report.incomplete else 1
