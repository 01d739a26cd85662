"""The layer table, in the format that torchsummary made familiar."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

MIB = 1024**2
BYTES = 4  # torchsummary counts every value as float32
RULE = "-" * 64
DOUBLE_RULE = "=" * 64


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """One layer, in the order of execution."""

    name: str  # PyTorch's class name, such as "Conv2d"
    output_shape: tuple[int, ...]  # (C, H, W) or (features,), without the batch
    params: int  # the layer's own; a block's layers have rows of their own


@dataclasses.dataclass(frozen=True)
class Totals:
    """The sums below the table; sizes in MiB for one image."""

    params: int
    input_size: float
    forward_backward_size: float  # every output once forward, its gradient once backward
    params_size: float

    @property
    def total_size(self) -> float:
        """Everything together."""
        return self.input_size + self.forward_backward_size + self.params_size


def totals(rows: Sequence[LayerRow], input_shape: tuple[int, ...]) -> Totals:
    """Sum the table up."""
    params = sum(row.params for row in rows)
    outputs = sum(math.prod(row.output_shape) for row in rows)
    return Totals(
        params=params,
        input_size=math.prod(input_shape) * BYTES / MIB,
        forward_backward_size=2 * outputs * BYTES / MIB,
        params_size=params * BYTES / MIB,
    )


def render(rows: Sequence[LayerRow], input_shape: tuple[int, ...]) -> str:
    """Write the table as text, all parameters trainable."""
    sums = totals(rows, input_shape)
    lines = [RULE, f"{'Layer (type)':>20}  {'Output Shape':>25} {'Param #':>15}", DOUBLE_RULE]
    for number, row in enumerate(rows, 1):
        shape = str([-1, *row.output_shape])
        lines.append(f"{row.name + '-' + str(number):>20}  {shape:>25} {row.params:>15,}")
    lines += [
        DOUBLE_RULE,
        f"Total params: {sums.params:,}",
        f"Trainable params: {sums.params:,}",
        "Non-trainable params: 0",
        RULE,
        f"Input size (MB): {sums.input_size:.2f}",
        f"Forward/backward pass size (MB): {sums.forward_backward_size:.2f}",
        f"Params size (MB): {sums.params_size:.2f}",
        f"Estimated Total Size (MB): {sums.total_size:.2f}",
        RULE,
    ]
    return "\n".join(lines)
