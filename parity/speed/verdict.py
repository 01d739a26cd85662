"""What first outputs are compared with. Free of frameworks: the parent process compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from parity.budgets import reference as budget
from recipe.system.errors import UserError

Arrays = Mapping[str, np.ndarray]


class Verdict(NamedTuple):
    """What a contender's first outputs are compared with."""

    expected: Arrays  # float64
    allowed: dict[str, float]
    flops: int  # of one step: multiplications and additions of convolutions and the linear layer
    traffic: int = 0  # bytes of activations that a step has to move


def check(name: str, outputs: Arrays, verdict: Verdict, precision: str) -> float:
    """Compare a contender's first outputs with the reference's.

    Returns:
      the largest error, as a share of what is allowed.

    Raises:
      UserError: if one is over its budget, or nothing was compared.
    """
    if not outputs or outputs.keys() != verdict.expected.keys():
        raise UserError(f"{name} computes other tensors than the reference; nothing was timed")
    worst, where = 0.0, ""
    for tensor, expected in verdict.expected.items():
        error = budget.distance(outputs[tensor], expected, precision)
        share = budget.ratio(error, verdict.allowed[tensor])
        if math.isnan(share) or share > worst:
            worst, where = (math.inf if math.isnan(share) else share), tensor
    if worst > 1:
        what = "logits" if "logits" in outputs else "first gradients"
        raise UserError(
            f"{name} differs from the reference: its {what} ({where}, {precision}) are off by {worst:.3g} "
            "times what rounding explains; nothing was timed. python -m parity verify finds the cause"
        )
    return worst
