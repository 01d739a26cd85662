"""python -m parity.aot [FILE]: compile the steps for an H100 and TPU v5e, and write docs/accelerators.md."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # see targets.py

import jax

from parity.aot.figures import figures
from parity.aot.programs import eval_step, train_step
from parity.aot.report import Row, render
from parity.aot.targets import Target, h100, v5e
from recipe import files
from recipe.errors import UserError

FILE = Path(__file__).parent.parent.parent / "docs" / "accelerators.md"
BATCHES = (128, 512, 4096)
PACKAGES = ("jax", "jaxlib", "flax", "jax-cuda13-plugin", "nvidia-cudnn-cu13", "libtpu")


def main() -> int:
    """Compile everything, with a line about each, and write the report."""
    try:
        rows = [row for target in (h100(), v5e(1), v5e(4)) for row in compile_all(target)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    files.write_text(file, render(rows, {name: found(name) for name in PACKAGES}))
    print(f"Written: {file}")
    return 0


def compile_all(target: Target) -> list[Row]:
    """The train step at every batch size and the evaluation step, in bf16; on the H100 also in f32."""
    rows = [measured(target, "train", batch, "bf16") for batch in BATCHES]
    rows.append(measured(target, "eval", 500, "bf16"))
    if target.platform == "cuda":
        rows.append(measured(target, "train", 512, "f32"))
    return rows


def measured(target: Target, step: str, batch_size: int, precision: str) -> Row:
    """Compile one program and read its figures."""
    make = {"train": train_step, "eval": eval_step}[step]
    program = make(target, batch_size=batch_size, precision=precision)
    of_each = figures(program, batch_size // len(target.devices), count_launches=target.platform == "cuda")
    row = Row(target.name, target.platform, step, batch_size, precision, of_each)
    print(f"{target.name}, {step} step, batch {batch_size}, {precision}: {of_each}", flush=True)
    jax.clear_caches()
    return row


def found(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
