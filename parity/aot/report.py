"""docs/accelerators.md, from figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from parity.aot.figures import Figures

MINIMUM = 18.6  # MB per image: activations in bf16, each fused launch reading and writing once


class Row(NamedTuple):
    """One compiled program."""

    target: str
    platform: str
    step: str  # train | eval
    batch_size: int
    precision: str
    figures: Figures


INTRODUCTION = """# Accelerators

What XLA makes of this project's training and evaluation steps for accelerators that were not there:
`make aot` compiles the trainer's own programs ahead of time (planned step with crop, flip, batch statistics
and optimizer; the state donated) and reads the optimized program. **Nothing here has run on an accelerator**:
these are counts, not times. XLA could not try cuDNN's algorithms out, so a program compiled on an H100
may choose others, and their scratch memory is not in these numbers.

"""

COUNTING = f"""
How it is counted (`parity/aot/hlo.py`; `tests/parity/test_aot.py` has small modules with known answers):

- **Launches** are the instructions of the program that do work on the device; parameters, tuples and bitcasts
  are none. A call of cuDNN is one, though it may be several kernels. Of TPU programs, whose instructions
  are no launches, neither launches nor bytes are told.
- **MB per image** (10⁶ bytes): every launch reads its operands and writes its results once and whole; of
  what it only slices or gathers, as much as it takes; of what it updates in place, the update. No cache
  is assumed, nor scratch memory. It includes the optimizer, whose 45 MB of parameters take the more per
  image, the smaller a batch is. The least possible for the activations in bf16 is about {MINIMUM} MB.
- **Memory** is arguments, results and temporary arrays of one device, donated ones once; the dataset
  (154 MB) is one of the arguments.
- **Transposes** are those that move a four-dimensional array to another order in memory, kernels included.
- **f32 convolutions** have a float32 operand.
"""

REASONS = """
## What the numbers come from

- Batch norm's gradient in closed form, and its two sums per channel in one reduction
  (`flax_resnet/normalise.py`). In bf16 networks also the variance in one pass, and scale and offset per
  channel before they meet the activations: XLA then makes a ReLU's mask again instead of storing it.
- A block's last ReLU takes its gradient from its result (`flax_resnet/activations.py`), which the next
  convolution keeps anyway.
- On a GPU the kernels live in the order OHWI, which cuDNN wants (`flax_resnet/devices.py`): no transposition
  of any kernel, and an update in place.
- What is left above the least: the gradients that meet at the blocks of 32×32 pixels are added in a launch of
  their own, and read again by the reduction after it.
- No XLA flag is set: none was tried.
"""


def render(rows: Sequence[Row], versions: Mapping[str, str]) -> str:
    """The whole page."""
    command = "Made by `make aot` with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".\n"
    return INTRODUCTION + command + _gpu(rows) + _tpu(rows) + COUNTING + REASONS


def _gpu(rows: Sequence[Row]) -> str:
    heads = "step", "batch", "precision", "launches", "MB per image", "memory, GB", "transposes"
    table = [
        (
            row.step,
            row.batch_size,
            row.precision,
            row.figures.launches,
            f"{row.figures.bytes_per_image / 1e6:.2f}",
            f"{row.figures.memory / 1e9:.2f}",
            row.figures.transposes,
            row.figures.convolutions,
            row.figures.f32_convolutions,
        )
        for row in rows
        if row.platform == "cuda"
    ]
    return "\n## H100 (SXM, 80 GB)\n\n" + _table((*heads, "convolutions", "of them f32"), table)


def _tpu(rows: Sequence[Row]) -> str:
    heads = "target", "step", "batch", "precision", "memory, GB", "collectives", "convolutions", "of them f32"
    table = [
        (
            row.target,
            row.step,
            row.batch_size,
            row.precision,
            f"{row.figures.memory / 1e9:.2f}",
            ", ".join(f"{n} {name}" for name, n in row.figures.collectives.items()) or "none",
            row.figures.convolutions,
            row.figures.f32_convolutions,
        )
        for row in rows
        if row.platform == "tpu"
    ]
    if not table:
        return "\n## TPU v5e\n\nNot compiled for this page.\n"
    note = "The batch is that of all chips; the rest is per chip.\n\n"
    return "\n## TPU v5e (16 GB a chip)\n\n" + note + _table(heads, table)


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
