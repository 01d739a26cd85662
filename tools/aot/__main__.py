"""python -m tools.aot: compile the steps for an H100 and TPU v5e, and write docs/accelerators.md.

A program that is compiled already, and has not changed since, nor have the packages, is not compiled again:
its figures are in docs/results/accelerators.json. So an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

os.environ["JAX_PLATFORMS"] = "cpu"  # see targets.py

import jax

from recipe.system import files
from recipe.system.errors import UserError
from tools.aot import rows
from tools.aot.figures import figures
from tools.aot.programs import eval_step, train_step
from tools.aot.report import render
from tools.aot.targets import Target, h100, v5e

DOCS = Path(__file__).parent.parent.parent / "docs"
TARGETS = h100, partial(v5e, 1), partial(v5e, 4)
BATCHES = (128, 512, 4096)
PACKAGES = ("jax", "jaxlib", "flax", "jax-cuda13-plugin", "nvidia-cudnn-cu13", "libtpu")


class Wanted(NamedTuple):
    """A program to compile."""

    target: Target
    step: str  # train | eval
    batch_size: int
    precision: str


def main() -> int:
    """Compile what is missing, with a line about each, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m tools.aot", description=__doc__.partition("\n")[0])
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to write; docs unless told")
    parser.add_argument("--known", action="store_true", help="compile nothing: report what is compiled")
    args = parser.parse_args()
    file = args.docs / "results" / "accelerators.json"
    versions = {name: found(name) for name in PACKAGES}
    known, used, missing = rows.read(file), {}, []
    try:
        for wanted in (w for make in TARGETS for w in programs(make())):
            if row := row_of(wanted, known, versions, compile_it=not args.known):
                known[row.fingerprint] = used[row.fingerprint] = row
                rows.write(file, known.values())
            else:
                missing.append(f"{wanted.target.name}, {wanted.step} step, batch {wanted.batch_size}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows.write(file, used.values())
    page = args.docs / "accelerators.md"
    files.write_text(page, render(list(used.values()), missing, versions))
    print(f"Written: {page}")
    return 0


def programs(target: Target) -> Iterator[Wanted]:
    """The train step at every batch size and the evaluation step, in bf16; on the H100 also in f32."""
    for batch_size in BATCHES:
        yield Wanted(target, "train", batch_size, "bf16")
    yield Wanted(target, "eval", 500, "bf16")
    if target.platform == "cuda":
        yield Wanted(target, "train", 512, "f32")


def row_of(
    wanted: Wanted, known: dict[str, rows.Row], versions: dict[str, str], *, compile_it: bool
) -> rows.Row | None:
    """The figures of a program: known ones, or else those of compiling it now, or none."""
    target, step, batch_size, precision = wanted
    make = {"train": train_step, "eval": eval_step}[step]
    lowered = make(target, batch_size=batch_size, precision=precision)
    fingerprint = rows.fingerprint(lowered, target, versions)
    if fingerprint in known or not compile_it:
        return known.get(fingerprint)
    program = lowered.compile(compiler_options=target.options)
    of_each = figures(program, batch_size // len(target.devices), count_launches=target.platform == "cuda")
    print(f"{target.name}, {step} step, batch {batch_size}, {precision}: {of_each}", flush=True)
    jax.clear_caches()
    return rows.Row(target.name, target.platform, step, batch_size, precision, fingerprint, of_each)


def found(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
