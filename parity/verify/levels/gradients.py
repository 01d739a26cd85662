"""Level 4: every layer's backward pass on its own (single_layers.py), the loss and every gradient."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from parity.budgets import near_ties
from parity.budgets.reference import Arrays, distance, lower, reference_errors, scaled
from parity.cause import Cause
from parity.engines import Gradients
from parity.result import Check, Finding, Findings, first_over
from parity.verify.case import Case
from parity.verify.diagnose.training import of_gradients, of_loss
from parity.verify.levels import single_layers

SMOOTHING = (0.0, 0.1)
LOSS = "loss"


def check(case: Case) -> Iterator[Check]:
    """Layers one by one, then end to end in every precision."""
    for precision in single_layers.PRECISIONS:
        yield single_layers.backward(case, precision)
    for smoothing in SMOOTHING:
        yield end_to_end(case, "f64", smoothing)
    for precision in ("f32", "bf16"):
        yield end_to_end(case, precision, SMOOTHING[-1])


def end_to_end(case: Case, precision: str, smoothing: float) -> Check:
    """Loss and gradients of a batch, in the order in which they are computed: from the loss backwards."""
    count, size = case.shapes(True, precision)[0]
    images, labels = case.images(count, size), case.labels(count)

    errors = _errors(case, smoothing, count, size, lower(precision), turns=precision == "f32")
    allowed = scaled(errors, precision)
    theirs, ours = (
        _as_arrays(network.gradients(images, labels, smoothing))
        for network in (case.torch(precision), case.flax(precision))
    )
    findings = [
        Finding(name, distance(ours[name], theirs[name], precision), allowed[name]) for name in theirs
    ]

    def why() -> Cause:
        first = first_over(findings)
        assert first is not None
        if first.where != LOSS:
            return of_gradients(ours, theirs, count, first.where)
        plain_ours, plain_theirs = (
            float(network.gradients(images, labels, 0.0).loss)
            for network in (case.flax(precision), case.torch(precision))
        )
        return of_loss(float(ours[LOSS]), float(theirs[LOSS]), count, smoothing, plain_ours, plain_theirs)

    found = Findings()
    found.add(*findings, why=why)
    name = f"loss and gradients, label smoothing {smoothing:g}"
    return found.check(4, name, precision, single_layers.UNITS[precision])


@functools.lru_cache(maxsize=8)
def _errors(
    case: Case, smoothing: float, count: int, size: int, precision: str, turns: bool
) -> dict[str, float]:
    """The reference's own errors in the loss and all gradients, doubtful decisions turned or as they fall."""
    images = case.images(count, size)

    def reference(images: np.ndarray, precision: str) -> Arrays:
        return _as_arrays(case.torch(precision).gradients(images, case.labels(count), smoothing))

    run = functools.partial(reference, images)
    doubtful = near_ties.uncertain(run, "f32", "f64", case.seed) if turns else None
    return reference_errors(reference, images, precision, doubtful)


def _as_arrays(found: Gradients) -> dict[str, np.ndarray]:
    """Loss first, then gradients from the last layer to the first."""
    return {LOSS: found.loss} | dict(reversed(found.grads.items()))
