"""How much two correct programs may differ. Budgets are derived, and from the reference alone.

A layer on its own, in float64. Both engines get the same input. Summing n products in any order
errs by at most γₙ·(|W|∗|x|), γₙ = n·u/(1 − n·u), element by element (Higham, Accuracy and Stability of
Numerical Algorithms, section 3.1), in either engine, so the two differ by at most C = 2 times that. This is a
theorem, not a calibration. In float32 it has room for TF32, and the tighter of both rules counts.

Everything else: several layers, float32, bfloat16. PyTorch in the lower precision is compared with PyTorch
in float64 on several inputs, each perturbed by up to half a unit of the lower precision. The
largest error is what rounding does to this network with these weights on such inputs; a correct
implementation rounds in other places and is off by a few times that, at most K times. A single number, such
as the loss, can be right by luck in all of them; so the reference's error counts as u·‖t‖∞ at least, what
rounding the result once may cost. In float64 the same roundings are smaller by the ratio of the units.
bfloat16 is compared in norms, since single elements of a deep bfloat16 network are noise.

Gradients jump where rounding turns a decision; parity/budgets/near_ties.py says how float32 budgets know
of it.

No error of the network under test enters: a budget that grew with it could never be exceeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np

C = 2.0
K = 8.0  # see docs/parity.md for the calibration
PERTURBATIONS = 8
UNIT = {"bf16": 2.0**-7, "f32": float(np.finfo(np.float32).eps), "f64": float(np.finfo(np.float64).eps)}

Arrays = Mapping[str, np.ndarray]
Reference = Callable[[np.ndarray, str], Arrays]  # (float64 inputs, precision) → outputs by name


def gamma(n: int, precision: str = "f64") -> float:
    """γₙ = n·u/(1 − n·u) with the unit roundoff u = ε/2 of a precision."""
    u = UNIT[precision] / 2
    return n * u / (1 - n * u)


def distance(a: np.ndarray, b: np.ndarray, precision: str, size: float | None = None) -> float:
    """Largest difference of two arrays of one shape; in bf16 ‖a−b‖₂/size. 0/0 is 0.

    NaN where one of them alone is not finite, or their infinities have different signs.

    Args:
      a: and
      b: the arrays.
      precision: of the computation.
      size: in bf16 what the norm is divided by; ‖b‖₂ if None.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return float("nan")
    with np.errstate(invalid="ignore"):  # infinities
        difference = a - b
    if not np.isfinite(np.abs(difference).max(initial=0.0)):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        if not (np.isfinite(a) & np.isfinite(b) | same).all():
            return float("nan")
        difference = np.where(same, 0.0, difference)
    if precision != "bf16":
        return float(np.abs(difference).max(initial=0.0))
    return ratio(float(np.linalg.norm(difference)), norm(b) if size is None else size)


def norm(array: np.ndarray) -> float:
    """‖array‖₂ of what is finite in it."""
    return float(np.linalg.norm(array[np.isfinite(array)]))


def ratio(error: float, size: float) -> float:
    """error/size, where 0/0 is 0 and anything else over 0 is infinite."""
    if not error:
        return 0.0
    return error / size if size else math.inf


def perturbed(inputs: np.ndarray, precision: str, seed: int = 0) -> list[np.ndarray]:
    """Inputs that differ from the given ones by a precision's rounding, each exact in float32.

    Smaller noise would leave most bfloat16 roundings as they were: eight runs would be one, and the error of
    a single number, such as the loss, may happen to be next to nothing in one run.
    """
    rng = np.random.default_rng(seed)
    noise = [1 + UNIT[precision] * rng.uniform(-0.5, 0.5, inputs.shape) for _ in range(PERTURBATIONS)]
    return [(inputs * factor).astype(np.float32).astype(np.float64) for factor in noise]


def reference_errors(
    reference: Reference,
    inputs: np.ndarray,
    precision: str,
    decisions: AbstractContextManager[object] | None = None,
) -> dict[str, float]:
    """The reference's own largest error in a precision ("f32" or "bf16"), by output; in f32 at least u·‖t‖∞.

    Args:
      reference: the PyTorch network's outputs for inputs in a precision.
      inputs: float64.
      precision: the one to compare with float64; errors are as `distance` measures them.
      decisions: entered for every run in float64; see parity/budgets/near_ties.py.
    """
    errors: dict[str, float] = {}
    for version in perturbed(inputs, precision):
        low = reference(version, precision)
        with decisions or nullcontext():
            high = reference(version, "f64")
        for name in high:
            error = distance(low[name], high[name], precision)
            errors[name] = max(errors.get(name, 0.0), error, rounding(high[name], precision))
    return errors


def rounding(exact: np.ndarray, precision: str) -> float:
    """What rounding a result once to float32 may cost; 0 in bf16, whose losses and gradients are float32."""
    if precision == "bf16":
        return 0.0
    largest = float(np.abs(exact).max(initial=0.0))
    if not math.isfinite(largest):
        largest = float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
    return UNIT[precision] / 2 * largest


def scaled(errors: Mapping[str, float], precision: str) -> dict[str, float]:
    """Turn the reference's own errors into the largest allowed distances of the two engines.

    For float64 the errors are those of float32.
    """
    return {name: factor(precision) * error for name, error in errors.items()}


def factor(precision: str) -> float:
    """The budget of a precision over the reference's own error in `lower(precision)`."""
    return K * UNIT["f64"] / UNIT["f32"] if precision == "f64" else K


def lower(precision: str) -> str:
    """The precision whose errors of the reference set the budget."""
    return "f32" if precision == "f64" else precision
