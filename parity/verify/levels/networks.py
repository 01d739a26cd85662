"""Levels 2 to 4: both networks by the comparison of any two (parity/comparison), and what is ours alone.

Every layer and every piece of code between layers runs on its own, from what PyTorch has there; then both
networks run freely.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import torch

from flax_resnet import steps
from parity.budgets.reference import Arrays, distance, reference_errors, scaled
from parity.cause import UNKNOWN, Cause
from parity.comparison.api import prepared
from parity.comparison.findings import BACKWARDS, BETWEEN, GRADIENT, INPUT_GRADIENT, LAYER, LOSS, Place
from parity.comparison.pair import Pair
from parity.engines import to_float
from parity.result import Check, Finding, Findings
from parity.verify import networks
from parity.verify.case import Case
from recipe.system.errors import UserError
from torch_ref import steps as torch_steps
from torch_ref.train_state import DTYPES

BLOCKS = ("ResBlock", "Bottleneck", "Sequential")  # modules that hold layers
SUFFIXES = {
    LAYER: "", BETWEEN: " input", LAYER + BACKWARDS: " dinput", BETWEEN + BACKWARDS: " doutput",
}  # fmt: skip


def evaluation(case: Case) -> Iterator[Check]:
    """Level 2."""
    yield from compared(case, 2)


def training(case: Case) -> Iterator[Check]:
    """Level 3."""
    yield from hard_batch_norm(case, 3)
    yield from compared(case, 3)


def gradients(case: Case) -> Iterator[Check]:
    """Level 4."""
    yield plain_loss(case)
    yield from hard_batch_norm(case, 4)
    yield from compared(case, 4)


def compared(case: Case, level: int) -> Iterator[Check]:
    """The comparison's checks of one level, for all shapes of inputs, those of float64 and float32 first."""
    for precisions in (("f64", "f32"), ("bf16",)):
        shapes = case.shapes(level != 2, precisions[0])
        for count, size in shapes[:1] if level == 4 else shapes:
            pair = networks.pair(case, level, precisions, count, size)
            yield from _checks(pair, level, f" ({count}×{size}²)")


def hard_batch_norm(case: Case, level: int) -> Iterator[Check]:
    """A batch norm of constant channels and of large means on its own.

    Bounds of all that is compared here are theorems, so what is over one fails, however little.
    """
    for precision in ("f64", "f32"):
        for check in _checks(networks.hard_batch_norm(case, precision), level, " (a hard batch norm)"):
            if _free(check):  # there is but one layer
                continue
            findings = tuple(Finding(one.where, one.error, one.allowed) for one in check.findings)
            over = (one for one in check.findings if isinstance(one, Place) and one.ratio > 1)
            first = next(over, None)
            cause = None if first is None else first.cause or UNKNOWN
            yield dataclasses.replace(check, findings=findings, cause=cause)


def plain_loss(case: Case) -> Check:
    """The trainers' loss of random logits without label smoothing, which is code of its own."""
    labels = case.labels(8)
    logits = np.random.default_rng(case.seed).normal(size=(8, case.description.num_classes))

    def reference(logits: np.ndarray, precision: str) -> Arrays:
        given = torch.from_numpy(logits).to(DTYPES[precision][1]).requires_grad_()
        loss = torch_steps.cross_entropy(given, torch.from_numpy(labels))
        (gradient,) = torch.autograd.grad(loss, given)
        return {"loss": to_float(loss), "dlogits": to_float(gradient)}

    value, gradient = jax.value_and_grad(steps.cross_entropy)(jnp.asarray(logits), jnp.asarray(labels))
    ours = {"loss": to_float(value), "dlogits": to_float(gradient)}
    allowed = scaled(reference_errors(reference, logits, "f32"), "f64")
    theirs = reference(logits, "f64")
    findings = [Finding(name, distance(ours[name], theirs[name], "f64"), allowed[name]) for name in theirs]
    found = Findings()
    found.add(*findings, why=lambda: Cause("loss", "the loss itself differs"))
    return found.check(4, "loss without label smoothing", "f64", "largest element")


def _checks(pair: Pair, level: int, words: str) -> Iterator[Check]:
    try:
        halves = pair.torch_half, pair.flax_half
        for check in prepared(*halves, frozenset({level}), math.inf, lambda _: None).run():
            if check.level == level:  # the names of tensors are level 1's
                yield as_verified(check, words)
    except UserError as error:  # strangers' networks are refused; what this project's do not is a finding
        if error.__cause__:
            raise error.__cause__  # noqa: B904  the network's own error, which has its own cause
        finding = Finding("network", math.inf, 0.0)
        cause = Cause("structure", str(error))
        yield Check(level, "the networks can't be compared", "exact", "crash", (finding,), cause)


def as_verified(check: Check, words: str = "") -> Check:
    """A check of the comparison as one of `verify`: with PyTorch's names alone, and one cause.

    The loss comes first, and end to end gradients are listed as they are computed, against the data.
    """
    places = [place for place in check.findings if isinstance(place, Place)]
    if check.level == 4 and _free(check):
        places.reverse()
    places.sort(key=lambda place: place.what != LOSS)
    named = tuple(dataclasses.replace(place, where=_where(place)) for place in places)
    first = next((place for place in named if place.failed), None)
    cause = None if first is None else _cause(first)
    return dataclasses.replace(check, name=check.name + words, findings=named, cause=cause)


def _free(check: Check) -> bool:
    """Whether the networks ran end to end."""
    return any(isinstance(one, Place) and one.free for one in check.findings)


def _cause(place: Place) -> Cause:
    """The likely cause, or what the place says of it."""
    if place.cause not in (None, UNKNOWN):
        return place.cause
    if place.what == BETWEEN or (place.what == LAYER and place.kind in BLOCKS):
        return Cause("wiring", f"{place.where}: the layers before it are right, what is behind them is not")
    return UNKNOWN


def _where(place: Place) -> str:
    """The place by PyTorch's names, which Flax's are made of."""
    path, _, leaf = place.torch.rpartition(".")
    if place.what == GRADIENT:
        return f"{path} d{leaf}"
    if place.what == INPUT_GRADIENT:
        return "images dinput"
    if place.torch == "output":
        return "logits"
    return place.torch + SUFFIXES.get(place.what, "")
