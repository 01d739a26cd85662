"""How much two correct programs may differ. Budgets are derived from the reference alone.

PyTorch in float32 is compared with PyTorch in float64. Its error, the largest over inputs that are perturbed
by about half a unit in the last place, is what rounding does to this network with these weights on this
input. A correct implementation rounds in other places, and gets a few times that. In float64 the same
roundings are smaller by the ratio of the units. No error of the side under test enters: a budget that grew
with it could never be exceeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# How many times the reference's own error a correct implementation may be off.
FACTOR = 8.0
PERTURBATIONS = 8
UNIT = {"f32": float(np.finfo(np.float32).eps), "f64": float(np.finfo(np.float64).eps)}


class Budget(NamedTuple):
    """Largest allowed differences, for outputs of a precision."""

    f32: float
    f64: float


def derive(reference: Callable[[np.ndarray, str], np.ndarray], inputs: np.ndarray, seed: int = 0) -> Budget:
    """Derive the budgets of a function's outputs.

    Args:
      reference: (inputs, "f32" or "f64") → outputs; PyTorch's side.
      inputs: float64, perturbed relatively by up to half a float32 unit before each of the evaluations.
      seed: draws the perturbations.
    """
    rng = np.random.default_rng(seed)
    error = 0.0
    for _ in range(PERTURBATIONS):
        perturbed = inputs * (1 + UNIT["f32"] * rng.uniform(-0.5, 0.5, inputs.shape))
        perturbed = perturbed.astype(np.float32).astype(np.float64)
        difference = reference(perturbed, "f32").astype(np.float64) - reference(perturbed, "f64")
        error = max(error, float(np.abs(difference).max()))
    return Budget(f32=FACTOR * error, f64=FACTOR * error * UNIT["f64"] / UNIT["f32"])
