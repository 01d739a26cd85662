"""The fault campaign: breaks what can break while programs run, and sees whether they keep their promises.

python -m tests.stress [--part NAME]… [--scale X] [--seed N] [--write]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import multiprocessing
import sys
import time
import traceback

from recipe.system.processor import processor_name
from tests.stress import table
from tests.stress.parts import PARTS


def main() -> int:
    """Run the parts, two at a time; 0, or 1 if the product broke a promise."""
    options = parser().parse_args()
    names = options.part or list(PARTS)
    started = time.monotonic()
    tables, failed = {}, []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context, max_tasks_per_child=1) as pool:
        under_way = {
            pool.submit(PARTS[name].run, 60 * PARTS[name].minutes * options.scale, options.seed): name
            for name in names
        }
        for done in concurrent.futures.as_completed(under_way):
            name = under_way[done]
            if error := done.exception():
                failed.append(name)
                print(f"{name} FAILED\n{''.join(traceback.format_exception(error))}", flush=True)
                continue
            tables[name] = table.render(done.result(), conditions(options))
            print(f"{name}\n\n{tables[name]}\n", flush=True)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes; failed: {', '.join(failed) or 'none'}")
    if options.write and not failed:
        page = table.PAGE.read_text(encoding="utf-8")
        table.PAGE.write_text(table.insert(page, tables, list(PARTS)), encoding="utf-8")
    return 1 if failed else 0


def conditions(options: argparse.Namespace) -> str:
    """When, where and how a part ran."""
    scale = "" if options.scale == 1 else f", {options.scale:g} of the time"
    return f"{datetime.date.today()}, {processor_name()}, seed {options.seed}{scale}:"


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__.splitlines()[0])
    flags.add_argument("--part", action="append", choices=list(PARTS), help="this one alone; may be repeated")
    flags.add_argument("--scale", type=float, default=1.0, help="of the time that each part takes")
    flags.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")
    flags.add_argument("--write", action="store_true", help=f"write the tables into docs/{table.PAGE.name}")
    return flags


if __name__ == "__main__":
    sys.exit(main())
