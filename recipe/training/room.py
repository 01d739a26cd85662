"""Whether a run can fit into this machine's memory, known before anything of it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recipe.output.layer_table import LayerRow
from recipe.system.errors import UserError
from recipe.system.memory import gpu_expected, most_memory
from recipe.training.description import RunDescription

PARAMETER_BYTES = {"bf16": 4, "f32": 4, "f64": 8}  # by config.precision
ACTIVATION_BYTES = {"bf16": 2, "f32": 4, "f64": 8}


def check(run: RunDescription, rows: Sequence[LayerRow]) -> None:
    """Raise a `UserError` if the run needs more memory than there is, by what it needs at the very least.

    That is parameters, gradients and momentum, and for the backward pass half of what the layers compute in
    the forward pass. A GPU's own memory is not known here: where one is expected, only the initial parameters
    count, which are drawn on the CPU.
    """
    parameters = sum(row.params for row in rows) * PARAMETER_BYTES[run.precision]
    values = sum(math.prod(row.output_shape) for row in rows)
    area = (max(run.resize.sizes, default=run.model.image_size) / run.model.image_size) ** 2
    activations = values * area * run.batch_size * ACTIVATION_BYTES[run.precision] / 2
    least = parameters if gpu_expected() else 3 * parameters + activations
    if least > (most := most_memory()):
        smaller = "config.model.width" if 3 * parameters > activations else "config.batch_size"
        raise UserError(
            f"{run.model.arch} of width {run.model.width} with batches of {run.batch_size} needs more than "
            f"{least / 1e9:,.0f} GB of memory, and there are {most / 1e9:,.0f} GB; choose a smaller {smaller}"
        )
