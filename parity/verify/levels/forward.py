"""Levels 2 and 3: every layer on its own (single_layers.py), and every activation end to end."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from parity.budgets.reference import Arrays, distance, lower, reference_errors, scaled
from parity.engines import Pass
from parity.result import Check, Finding, Findings
from parity.verify.case import Case
from parity.verify.diagnose.wiring import of_wiring
from parity.verify.levels import single_layers


def check(case: Case, training: bool) -> Iterator[Check]:
    """All checks of level 2 (evaluation) or 3 (training)."""
    for precision in single_layers.PRECISIONS:
        yield from single_layers.forward(case, training, precision)
    for precision in ("f64", "f32"):
        if training:
            yield single_layers.hard_batch_norm(case, precision)
    for precision in single_layers.PRECISIONS:
        yield end_to_end(case, training, precision)
    if training:
        yield statistics_end_to_end(case)


def end_to_end(case: Case, training: bool, precision: str) -> Check:
    """Every layer's activation, where both networks get the same images and then compute on their own."""
    found = Findings()
    for count, size in case.shapes(training, precision)[: None if precision == "f64" else 1]:
        images = case.images(count, size)
        allowed = scaled(_errors(case, training, count, size, lower(precision)), precision)
        theirs = case.torch(precision).forward(images, training)
        ours = case.flax(precision).forward(images, training)
        compared = compare_outputs(ours, theirs, allowed, precision)
        found.add(*compared, why=functools.partial(of_wiring, ours, theirs, compared))
    name = f"{single_layers.MODE[training]}: every activation, end to end"
    return found.check(3 if training else 2, name, precision, single_layers.UNITS[precision])


def statistics_end_to_end(case: Case) -> Check:
    """The running statistics after a forward pass of the network in train mode, in float32."""
    count, size = case.shapes(True, "f32")[0]
    images = case.images(count, size)
    allowed = scaled(_errors(case, True, count, size, "f32"), "f32")
    theirs = case.torch("f32").forward(images, True).statistics
    ours = case.flax("f32").forward(images, True).statistics
    findings = [Finding(name, distance(ours[name], theirs[name], "f32"), allowed[name]) for name in theirs]
    return Check(3, "train: running statistics, end to end", "f32", "largest element", tuple(findings))


@functools.lru_cache(maxsize=8)
def _errors(case: Case, training: bool, count: int, size: int, precision: str) -> dict[str, float]:
    """The reference's own errors in all activations and running statistics."""

    def reference(images: np.ndarray, precision: str) -> Arrays:
        found = case.torch(precision).forward(images, training)
        return found.outputs | found.statistics

    return reference_errors(reference, case.images(count, size), precision)


def compare_outputs(ours: Pass, theirs: Pass, allowed: dict[str, float], precision: str) -> list[Finding]:
    """One finding per layer, in PyTorch's order; a layer that ran in one engine only is an infinite error."""
    a, b = ours.outputs, theirs.outputs
    alone = [name for name in [*b, *a] if (name in a) != (name in b)]
    missing = [Finding(f"{name} (on one side only)", np.inf, 0.0) for name in alone]
    return missing + [
        Finding(name, distance(a[name], b[name], precision), allowed[name]) for name in b if name in a
    ]
