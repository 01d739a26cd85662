"""What a training step costs on more chips: arithmetic with the programs' collectives and published speeds.

The model of a collective is that of Austin et al., How to Scale Your Model (2025), chapters 2 and 3: an
all-reduce of V bytes over one axis of a torus takes 2·V/W, W being what a link carries in both directions, or
if it is small the time of the hops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from recipe.output import grid
from tools.aot.rows import Row

CHIPS = (1, 4, 16, 64)  # square slices: 1×1, 2×2, 4×4, 8×8
BATCHES = (128, 512, 4096)
FLOP_PER_IMAGE = 3 * 2 * 0.556e9  # ResNet18 at 32 pixels: a forward pass, and twice as much backward
BACKWARD = 2 / 3  # of a step's time: what the gradients' all-reduce can hide behind


class Chip(NamedTuple):
    """Published speeds of a TPU v5e: cloud.google.com/tpu/docs/v5e, and the book above for links and hops."""

    flops: float = 197e12  # per second, in bf16
    memory: float = 819e9  # bytes per second
    link: float = 90e9  # bytes per second, both directions of one link
    hop: float = 1e-6  # seconds from one chip to the next


class Cost(NamedTuple):
    """A training step on some chips, in seconds."""

    chips: int
    image: float  # of one image on one chip: by arithmetic or by memory, whichever takes longer
    gradients: float  # their all-reduce
    statistics: float  # all other collectives, which nothing can hide: each layer waits for its own

    def step(self, batch_size: int) -> float:
        """The time of a step of a global batch, if the gradients' all-reduce hides as far as it can."""
        compute = batch_size / self.chips * self.image
        return compute + self.statistics + max(0.0, self.gradients - BACKWARD * compute)

    @property
    def hides_from(self) -> int:
        """The smallest global batch whose backward pass is as long as the gradients' all-reduce."""
        return self.chips * math.ceil(self.gradients / (BACKWARD * self.image))


def cost(chips: int, image_bytes: float, gradient_bytes: float, others: int, chip: Chip = Chip()) -> Cost:  # noqa: B008
    """Cost of a step.

    Args:
      chips: a square number of them; 1 has no collectives.
      image_bytes: that a step reads and writes in memory per image.
      gradient_bytes: of the gradients, which each chip brings.
      others: how many small collectives a step has besides.
      chip: how fast one is.
    """
    image = max(FLOP_PER_IMAGE / chip.flops, image_bytes / chip.memory)
    if chips == 1:
        return Cost(1, image, 0.0, 0.0)
    hops = 2 * (math.isqrt(chips) - 1)  # across the square, along one side and then the other
    return Cost(
        chips, image, max(2 * gradient_bytes / chip.link, 2 * hops * chip.hop), others * 2 * hops * chip.hop
    )


def section(rows: Sequence[Row]) -> str:
    """The part of the page; "" where the programs that it needs were not compiled."""
    gpu = [r for r in rows if (r.platform, r.step, r.precision) == ("cuda", "train", "bf16")]
    tpu = [r for r in rows if r.platform == "tpu" and r.figures.collectives]
    if not gpu or not tpu:
        return ""
    image_bytes = min(row.figures.bytes_per_image for row in gpu)
    counts = tpu[0].figures.collectives
    gradient_bytes = counts["all-reduce"][1]
    others = sum(count for count, _ in counts.values()) - 1
    costs = [cost(chips, image_bytes, gradient_bytes, others) for chips in CHIPS]
    heads = ["chips", "gradients, ms", "statistics, ms", *(f"step of {b}, ms" for b in BATCHES), "hides from"]
    table = [
        (
            c.chips, f"{1e3 * c.gradients:.2f}", f"{1e3 * c.statistics:.2f}",
            *(f"{1e3 * c.step(batch):.2f}" for batch in BATCHES), c.hides_from or "–",
        )
        for c in costs
    ]  # fmt: skip
    image, arithmetic = 1e6 * costs[0].image, 1e6 * FLOP_PER_IMAGE / Chip().flops
    per_image, in_all = image_bytes / 1e6, gradient_bytes / 1e6
    return f"""
## More chips, on paper

By arithmetic (`tools/aot/scale.py`), not measured: a bf16 training step on square slices of TPU v5e.

- An image takes {image:.1f} µs of a chip. Memory at 819 GB/s is the bound, with {per_image:.1f} MB, as XLA
  counts them for the H100; arithmetic at 197 TFLOP/s would take {arithmetic:.1f} µs.
- The gradients are one all-reduce of {in_all:.1f} MB, which hides behind the backward pass from the last
  column's global batch on.
- The other {others} collectives, batch norm's sums and the metrics, are small: each costs the way across the
  slice and back, at 1 µs a hop, and nothing hides it, since the next layer waits.

So many chips want large batches: at 128, four are faster than 16 or 64.

{grid.markdown(heads, table)}
"""
