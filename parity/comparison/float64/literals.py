"""The digits of a constant that JAX rounded while it traced.

JAX rounds the 1e-6 in `x + 1e-6` to x's dtype before anybody sees it, so a norm that works in float32 would
add another number than its author wrote. What was written is nearly always a short decimal, or a number that
activations use; of the numbers that round to what JAX kept, such a one is taken. It is off from what JAX kept
by half a unit of that dtype at most, so nothing but that rounding is undone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from parity.comparison.float64 import types

KNOWN = (  # of activations, their derivatives, normal distributions, angles and logarithms
    0.044715, 3 * 0.044715, 1.702, math.sqrt(0.5), math.sqrt(2 / math.pi), 2 / math.sqrt(math.pi),
    1 / math.sqrt(2 * math.pi), math.sqrt(2 * math.pi), math.sqrt(math.pi), math.sqrt(math.pi) / 2,
    math.log(2 * math.pi), math.log(2 * math.pi) / 2, math.sqrt(2), math.pi, 2 * math.pi, math.pi / 2,
    1 / math.pi, math.pi / 180, 180 / math.pi, math.e, math.log(2), 1 / math.log(2), math.log(10),
    1 / math.log(10), math.log(10000), 1 / 3, 2 / 3, 1 / 6,
    1.0507009873554805, 1.6732632423543772, 1.0507009873554805 * 1.6732632423543772,  # SELU
)  # fmt: skip
SHORT = {"float32": 6, "bfloat16": 2, "float16": 3}  # digits of a decimal that a person wrote
LARGEST = 2**20  # whose root is recognised in float32


def digits(value: Any) -> Any:
    """A constant in float64; scalars of narrower floats with the digits that they probably had."""
    number = np.asarray(value, getattr(value, "dtype", None))  # JAX's own floats forget theirs
    if not types.is_narrow(number.dtype):
        return value
    wide = number.astype(types.widened(number.dtype))
    if number.shape or number.dtype.kind == "c" or not np.isfinite(wide) or wide == 0:
        return wide
    decimal, count = _shortest(number)
    many = SHORT[number.dtype.name]
    if count > many:
        roots = _roots(abs(float(wide))) if number.dtype == np.float32 else ()
        for candidate in (*KNOWN, *roots):
            if number.dtype.type(candidate) == abs(number):
                return np.float64(math.copysign(candidate, wide))
    return np.float64(decimal)


def _shortest(number: Any) -> tuple[str, int]:
    """The shortest decimal that rounds to a number, and of how many digits it is."""
    for count in range(1, 18):
        decimal = f"{float(number):.{count}g}"
        with np.errstate(over="ignore"):
            same = number.dtype.type(float(decimal)) == number
        if same:
            return decimal, count
    raise AssertionError(f"{number} is no float")


def _roots(size: float) -> tuple[float, ...]:
    """√n and 1/√n for the whole n that comes nearest."""
    found = []
    if 1 < size**2 < LARGEST:
        found.append(math.sqrt(round(size**2)))
    if 1 < size**-2 < LARGEST:
        found.append(1 / math.sqrt(round(size**-2)))
    return tuple(found)
