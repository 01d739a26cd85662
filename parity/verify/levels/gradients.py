"""Level 4: every layer's backward pass on its own (layers.py), the loss and every gradient."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from parity.budgets import near_ties as decisions
from parity.budgets.reference import Arrays, distance, lower, reference_errors, scaled
from parity.engines import Gradients
from parity.verify.case import Case
from parity.verify.diagnose import causes
from parity.verify.levels import single_layers as layers
from parity.verify.result import Check, Finding, first_over

SMOOTHING = (0.0, 0.1)
LOSS = "loss"


def check(case: Case) -> Iterator[Check]:
    """Layers one by one, then the whole network in every precision."""
    for precision in layers.PRECISIONS:
        yield layers.backward(case, precision)
    for smoothing in SMOOTHING:
        yield whole_network(case, "f64", smoothing)
    for precision in ("f32", "bf16"):
        yield whole_network(case, precision, SMOOTHING[-1])


def whole_network(case: Case, precision: str, smoothing: float) -> Check:
    """Loss and gradients of a batch, in the order in which they are computed: from the loss backwards."""
    count, size = case.shapes(True, precision)[0]
    images, labels = case.images(count, size), case.labels(count)

    errors = _errors(case, smoothing, count, size, lower(precision), turns=precision == "f32")
    allowed = scaled(errors, precision)
    theirs, ours = (
        _as_arrays(side.gradients(images, labels, smoothing))
        for side in (case.torch(precision), case.flax(precision))
    )
    findings = [
        Finding(name, distance(ours[name], theirs[name], precision), allowed[name]) for name in theirs
    ]
    family = cause = ""
    over = first_over(findings)
    if over and over.where == LOSS:
        plain = [
            float(side.gradients(images, labels, 0.0).loss)
            for side in (case.flax(precision), case.torch(precision))
        ]
        family, cause = causes.of_loss(float(ours[LOSS]), float(theirs[LOSS]), count, smoothing, *plain)
    elif over:
        family, cause = causes.of_gradients(ours, theirs, count, over.where)
    name = f"loss and gradients, label smoothing {smoothing:g}"
    return Check(4, name, precision, layers.UNITS[precision], tuple(findings), family, cause)


@functools.lru_cache(maxsize=8)
def _errors(
    case: Case, smoothing: float, count: int, size: int, precision: str, turns: bool
) -> dict[str, float]:
    """The reference's own errors in the loss and all gradients, doubtful decisions turned or as they fall."""
    images = case.images(count, size)

    def reference(images: np.ndarray, precision: str) -> Arrays:
        return _as_arrays(case.torch(precision).gradients(images, case.labels(count), smoothing))

    run = functools.partial(reference, images)
    doubtful = decisions.uncertain(run, "f32", "f64", case.seed) if turns else None
    return reference_errors(reference, images, precision, doubtful)


def _as_arrays(found: Gradients) -> dict[str, np.ndarray]:
    """Loss first, then gradients from the last layer to the first."""
    return {LOSS: found.loss} | dict(reversed(found.grads.items()))
