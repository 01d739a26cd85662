"""One comparison of the two networks at one place, and its verdict."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from parity.budgets.reference import UNIT, K, distance, factor, norm
from parity.cause import Cause
from parity.comparison.recording import endless
from parity.result import Finding, elementwise

EQUAL, LESS_EXACT, FLOAT32_SIZED, DIFFERENT = "equal", "less exact", "float32-sized", "different"
# budgets within which an error is that of another formula, at a place that float64 clears
ANOTHER_FORMULA = {
    "f64": 1000.0,  # a constant in float32 is off by more
    "f32": 32.0,  # TF32 and bfloat16 round 2¹³ and 2¹⁶ times as much as float32
    "bf16": 8.0,  # of parameters' gradients alone: XLA adds up a bias's, term by term, in bfloat16 on a CPU
}

# what is compared; what ends in BACKWARDS is a gradient
LAYER, BETWEEN = "layer", "between"
BACKWARDS = ", backwards"
GRADIENT, INPUT_GRADIENT, STATISTIC = "gradient", "input gradient", "statistic"
OUTPUT, LOSS, TENSOR, UPDATE, DROPOUT = "output", "loss", "tensor", "update", "dropout"


@dataclasses.dataclass(frozen=True)
class Place(Finding):
    """A finding with both paths, and what it takes to judge it.

    Verdicts, from float64:

    - equal: within the budget.
    - less exact: within 1,000 budgets, and float32 would not show it: a formula that rounds more.
    - float32-sized: float32 would not show it, but no formula loses that much: a constant or an
      intermediate held in float32.
    - different: float32 shows it.

    In float32 what is over its budget is less exact up to 32 times if float64 does not find it different, and
    different beyond. In bfloat16 it is different, but for parameters' gradients, where it may be 8 times.
    """

    what: str
    torch: str  # path of the module or name of the tensor
    flax: str
    kind: str  # class name of PyTorch's module
    precision: str
    size: float  # the largest element of what PyTorch has there
    order: int  # of execution in PyTorch
    cause: Cause | None = None  # the likely one, where it differs
    cleared: bool = False  # whether float64 finds this place equal or less exact
    guess: bool = False  # whether the cause was inferred, not reproduced by its numbers
    reason: str = ""  # why the user allows it
    constant: float = 0.0  # the part of what is allowed that is for constants which PyTorch has in float32
    number: int = 0  # of the value, where a module gives or takes several
    free: bool = False  # whether both networks ran as they are, end to end, and not with the same pins

    @property
    def backwards(self) -> bool:
        """Whether a gradient is compared."""
        return self.what.endswith(BACKWARDS) or self.what in (GRADIENT, INPUT_GRADIENT)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What is compared where, whatever the precision."""
        return self.what, self.torch, self.flax, self.number

    @property
    def float32_budget(self) -> float:
        """What would be allowed in float32, at a place in float64."""
        return (self.allowed - self.constant) * UNIT["f32"] / UNIT["f64"] + self.constant

    @property
    def verdict(self) -> str:
        """One of the four."""
        if self.ratio <= 1:
            return EQUAL
        formula = self.ratio < ANOTHER_FORMULA.get(self.precision, 0.0)
        formula = formula and (self.precision != "bf16" or self.what == GRADIENT)
        if self.precision != "f64":
            return LESS_EXACT if formula and self.cleared else DIFFERENT
        if not math.isfinite(self.error) or self.error > self.float32_budget:
            return DIFFERENT
        return LESS_EXACT if formula else FLOAT32_SIZED

    @property
    def failed(self) -> bool:
        """Whether it is a difference that nobody allowed."""
        return self.verdict in (FLOAT32_SIZED, DIFFERENT) and not self.reason


def place(
    what: str, torch: str, flax: str, *, theirs: np.ndarray, ours: np.ndarray, own: tuple[float, float],
    precision: str, kind: str = "", order: int = 0, bound: np.ndarray | None = None, number: int = 0,
) -> Place:  # fmt: skip
    """Compare two arrays.

    Args:
      what: is compared.
      torch: PyTorch's path.
      flax: Flax's path.
      theirs: PyTorch's array, in Flax's layout.
      ours: Flax's.
      own: PyTorch's own error there in float32 (or its norm in bfloat16), and in float64 by constants in
        float32.
      precision: of Flax's run.
      kind: class name of PyTorch's module.
      order: of execution in PyTorch.
      bound: what a theorem allows element by element. In float64 it counts instead of K times `own`, which
        another order of a sum may exceed; in float32, where it has room for TF32, the tighter one does.
      number: of the value, where a module gives or takes several.
    """
    where, constant = _where(torch, flax), K * own[1]
    allowed = factor(precision) * own[0] + constant
    theirs, ours = endless(theirs), endless(ours)
    scale = norm(theirs) or 1.0 if precision == "bf16" else 1.0
    allowed, error = allowed / scale, distance(ours, theirs, precision, scale)
    if bound is not None and math.isfinite(error):
        tight = bound if precision == "f64" else np.minimum(bound, allowed)
        worst = elementwise(where, ours, theirs, tight)
        error, allowed, constant = worst.error, worst.allowed, 0.0
    size = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0))
    return Place(
        where, error, allowed, what, torch, flax, kind, precision, size, order, constant=constant,
        number=number,
    )  # fmt: skip


def exact(what: str, torch: str, flax: str, cause: Cause | None) -> Place:
    """A place where nothing may differ; it does if there is a cause."""
    wrong = float(cause is not None)
    return Place(_where(torch, flax), wrong, 0.0, what, torch, flax, "", "exact", 1.0, 0, cause)


def _where(torch: str, flax: str) -> str:
    return f"{torch} ~ {flax}" if torch and flax and torch != flax else torch or flax
