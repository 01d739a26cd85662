"""Levels 2 and 3: every layer on its own, and every layer's activation in the whole network."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from parity import causes
from parity.bounds import output_bound, statistics_bound
from parity.budget import Arrays, distance, lower, reference_errors, scaled
from parity.case import Case
from parity.results import Check, Finding, first_over
from parity.sides import Pass, to_float, to_nhwc

MODE = {False: "eval", True: "train"}


def shapes(case: Case, training: bool, precision: str = "f64") -> list[tuple[int, int]]:
    """(batch, size) of the inputs: the network's own size (at seed 0), and odd ones.

    In bfloat16 the batch is one that native kernels for a matrix unit take (cpu_kernels/amx.h): more
    than a tile's 16 images, and no multiple of them.
    """
    size = case.description.image_size if case.description.image_size <= 64 else 64
    count = 17 if precision == "bf16" else 4
    own = [(count + case.seed % 3, size + case.seed % 5)]  # other seeds, other shapes
    return own if case.quick or training else [*own, (1, size + 8), (3, size - 5)]


def check(case: Case, training: bool) -> Iterator[Check]:
    """All checks of level 2 (evaluation) or 3 (training)."""
    for precision in ("f64", "f32"):
        yield from layers_alone(case, training, precision)
    for precision in ("f64", "f32", "bf16"):
        yield whole_network(case, training, precision)
    if training:
        yield statistics_end_to_end(case)


def layers_alone(case: Case, training: bool, precision: str) -> Iterator[Check]:
    """Every layer gets the input that it has in PyTorch, and must give what PyTorch gives in float64.

    Bounds are elementwise. In float32 the input is rounded, so it is the same in both.
    """
    if precision == "f64":
        case = case.with_all_digits
    level = 3 if training else 2
    match = causes.MATCHES[precision]
    findings, statistics = [], []
    family, cause = "", ""
    for count, size in shapes(case, training):
        for layer in case.torch("f64").forward(case.images(count, size), training).layers[:-1]:
            module = case.torch("f64").module(layer.path).train(training)
            x = torch.from_numpy(rounded(layer.input, precision))
            x = x.permute(0, 3, 1, 2) if x.ndim == 4 else x
            after = copy.deepcopy(module)
            with torch.no_grad():
                bound = output_bound(module, x, training, precision)
                if bound is None:
                    continue  # a block: its layers are here, its sum is in the whole network
                expected = to_nhwc(after(x))
            side = case.flax(precision)
            ours = side.module(layer.path, training)
            output = to_float(jnp.asarray(ours(jnp.asarray(to_nhwc(x), side.dtype))))
            finding = elementwise(layer.path, output, expected, to_nhwc(bound))
            findings.append(finding)
            if finding.ratio > 1 and not cause:
                family, cause = causes.of_layer(module, x, output, training, match)
            if training and isinstance(module, nn.BatchNorm2d):
                for name, bounds in zip(("mean", "var"), statistics_bound(module, x, precision), strict=True):
                    new = to_float(getattr(ours, name)[...])
                    theirs = to_float(getattr(after, f"running_{name}"))
                    key = f"{layer.path}.running_{name}"
                    statistics.append(elementwise(key, new, theirs, to_float(bounds)))
                    if statistics[-1].ratio > 1 and not cause:
                        family, cause = causes.of_statistics(module, x, name, new, match)
    inputs = ", ".join(f"{count}×{size}²" for count, size in shapes(case, training))
    name = f"{MODE[training]}: every layer on its own ({inputs})"
    yield Check(level, name, precision, "largest element", tuple(findings), family, cause)
    if training:
        yield Check(
            level, "train: running statistics of every batch norm", precision, "largest element",
            tuple(statistics), family, cause,
        )  # fmt: skip


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """float64 numbers that a precision holds exactly."""
    return array if precision == "f64" else array.astype(np.float32).astype(np.float64)


def whole_network(case: Case, training: bool, precision: str) -> Check:
    """Every layer's activation, each engine on its own way from the same images."""
    level = 3 if training else 2
    findings: list[Finding] = []
    family, cause = "", ""
    for count, size in shapes(case, training, precision)[: None if precision == "f64" else 1]:
        images = case.images(count, size)
        allowed = scaled(_errors(case, training, count, size, lower(precision)), precision)
        theirs = case.torch(precision).forward(images, training)
        ours = case.flax(precision).forward(images, training)
        found = compare_outputs(ours, theirs, allowed, precision)
        if first_over(found) and not cause:
            family, cause = causes.of_wiring(ours, theirs, found)
        findings += found
    unit = "relative norm" if precision == "bf16" else "largest element"
    name = f"{MODE[training]}: every activation, end to end"
    return Check(level, name, precision, unit, tuple(findings), family, cause)


def statistics_end_to_end(case: Case) -> Check:
    """The running statistics after a training pass of the whole network, in float32."""
    ((count, size),) = shapes(case, training=True)
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
    """One finding per layer, in PyTorch's order; a layer that ran on one side only is an infinite error."""
    a, b = ours.outputs, theirs.outputs
    alone = [name for name in [*b, *a] if (name in a) != (name in b)]
    missing = [Finding(f"{name} (on one side only)", np.inf, 0.0) for name in alone]
    return missing + [
        Finding(name, distance(a[name], b[name], precision), allowed[name]) for name in b if name in a
    ]


def elementwise(where: str, ours: np.ndarray, theirs: np.ndarray, bound: np.ndarray) -> Finding:
    """The element that is closest to its own bound, or furthest over it."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return Finding(where, np.nan, float(bound.max()))
    difference = np.abs(ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0.0, difference / bound)
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    return Finding(where, float(difference[worst]), float(bound[worst]))
