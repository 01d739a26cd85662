"""The flags of `python -m parity mutants`, and what it writes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from parity import flags
from recipe.system import files, xla_flags
from recipe.system.errors import UserError


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add them to a parser."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of names; all mutants if none")
    parser.add_argument("--jobs", type=flags.natural, default=1, help="how many at a time")
    parser.add_argument("--json", type=files.expanded, metavar="FILE", help="write what was found")
    parser.add_argument("--markdown", type=files.expanded, metavar="FILE", help="write a table")


def main(options: argparse.Namespace) -> int:
    """Try the mutants: 0 only if every one was caught, where and as what it should be."""
    from parity.mutants import run

    if not options.jobs:
        raise UserError("--jobs must be at least 1")
    xla_flags.check()

    def show(result: dict[str, Any]) -> None:
        state = "caught" if result["right"] else "WRONG " if result["caught_by"] else "MISSED"
        found = f"{result['caught_by']}: {result['where']}; {result['family']}: {result['cause']}"
        print(f"{state}  {result['name']} ({result['seconds']} s): {found}", flush=True)

    results = run.run(options.names, options.jobs, show)
    if options.json:
        files.write_text(options.json, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if options.markdown:
        files.write_text(options.markdown, run.markdown(results))
    right = sum(result["right"] for result in results)
    print(f"{right} of {len(results)} mutants caught, where and as what they should be")
    return 0 if right == len(results) else 1
