"""What a cause is, and how a known mistake is recognised by its numbers.

A cause is named only when the reference, making the same mistake on the same input, gives the other engine's
numbers to what `MATCHES` says of its precision. Where no known mistake does, the report has the place and the
size of the error, and says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# of the largest element, by the precision of what ran; in float64 the right cause agrees to about 1e-14
MATCHES = {"f64": 1e-9, "f32": 1e-5, "bf16": 2e-2}
MATCH = MATCHES["f64"]
FAMILIES = (
    "structure", "convolution", "linear layer", "batch norm", "running statistics", "activation", "wiring",
    "pooling", "loss", "gradient", "weight decay", "momentum", "learning rate", "pipeline", "precision",
    "state", "native kernels", "unknown",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a check failed."""

    family: str  # of FAMILIES; "" where there are only words
    words: str  # what happened, with the numbers that speak for it


UNKNOWN = Cause("unknown", "no known mistake gives these numbers")
Alternatives = Iterable[tuple[str, str, Callable[[], Any]]]  # family, words, what it would give


def either(
    right: Callable[[], Any], alternatives: Alternatives, ours: np.ndarray, theirs: np.ndarray
) -> Cause:
    """Why the engine that does not give what `right` gives is wrong."""
    alternatives = list(alternatives)
    if not is_close(ours, np.asarray(right())):
        return first_match(alternatives, ours) or scale_or_rounding(ours, theirs) or UNKNOWN
    found = first_match(alternatives, theirs) or scale_or_rounding(theirs, ours) or UNKNOWN
    return in_pytorch(found)


def in_pytorch(cause: Cause) -> Cause:
    """The same mistake, but the reference made it."""
    return Cause(cause.family, f"in PyTorch: {cause.words}")


def first_match(
    alternatives: Alternatives, value: np.ndarray, match: float = MATCH, right: np.ndarray | None = None
) -> Cause | None:
    """The first mistake that gives `value`.

    A mistake that gives `right` as well, within `match`, explains nothing and is left out; so is one that
    can't be made with these shapes.
    """
    for family, words, make in alternatives:
        try:
            candidate = make()
        except (RuntimeError, IndexError, ValueError):  # shapes that this mistake can't have
            continue
        if right is not None and is_close(right, np.asarray(candidate), match):
            continue
        if is_close(value, np.asarray(candidate), match):
            return Cause(family, words)
    return None


def is_close(a: np.ndarray, b: np.ndarray, match: float = MATCH) -> bool:
    """Whether both are finite, of one shape, and within `match` of b's largest element of each other."""
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    with np.errstate(over="ignore"):  # numbers of a mask may be float64's largest
        return float(np.abs(a - b).max(initial=0)) <= match * float(np.abs(b).max(initial=0))


def common_ratio(a: np.ndarray, b: np.ndarray, match: float) -> float | None:
    """a/b if it is one number for all elements."""
    norm = float(np.vdot(b, b))
    if a.shape != b.shape or not norm:
        return None
    ratio = float(np.vdot(a, b)) / norm
    return ratio if is_close(a, ratio * b, match) and ratio else None


def scale_or_rounding(ours: np.ndarray, theirs: np.ndarray, match: float = MATCH) -> Cause | None:
    """A constant factor, or an error of the size that a lower precision makes."""
    if ours.shape != theirs.shape:
        return Cause("wiring", f"its shape is {ours.shape} instead of {theirs.shape}")
    if not np.isfinite(ours).all():
        return Cause("unknown", f"{int((~np.isfinite(ours)).sum())} values are not finite")
    error = float(np.abs(ours - theirs).max(initial=0)) / (float(np.abs(theirs).max(initial=0)) or 1)
    for name, unit in (("float32", 2.0**-24), ("bfloat16", 2.0**-8)):
        if unit / 50 < error < unit * 10:
            return Cause(
                "precision", f"errors of {error:.1g} of the largest element, about {name}'s rounding"
            )
    if error < 2.0**-24 / 50:
        return Cause(
            "precision", f"errors of {error:.1g} of the largest element, more than float64's rounding"
        )
    ratio = common_ratio(ours, theirs, match)
    return Cause("unknown", f"it is {ratio:.9g} times PyTorch's") if ratio else None
