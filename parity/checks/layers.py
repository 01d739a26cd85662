"""Levels 2 to 4: every layer on its own, from PyTorch's input; backwards, from a random gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from parity import causes
from parity.bounds import gradient_bounds, output_bound, statistics_bound
from parity.budget import Arrays, Reference, distance, reference_errors, scaled
from parity.case import Case
from parity.results import Check, Finding, elementwise, first_over
from parity.sides import Layer, to_float, to_nchw, to_nhwc

PRECISIONS = ("f64", "f32", "bf16")
MODE = {False: "eval", True: "train"}
UNITS = {"f64": "largest element", "f32": "largest element", "bf16": "relative norm"}


def forward(case: Case, training: bool, precision: str) -> Iterator[Check]:
    """Outputs, and in train mode the running statistics of batch norms as well."""
    if precision == "f64":
        case = case.with_all_digits
    shapes = case.shapes(training, precision)
    outputs: list[Finding] = []
    statistics: list[Finding] = []
    family = cause = ""
    for layer in (layer for shape in shapes for layer in single_layers(case, *shape, training)):
        (output, *others), why = forward_of(layer, case, training, precision)
        outputs.append(output)
        statistics += others
        if not cause:
            family, cause = why
    level, mode, unit = (3 if training else 2), MODE[training], UNITS[precision]
    inputs = ", ".join(f"{count}×{size}²" for count, size in shapes)
    name = f"{mode}: every layer on its own ({inputs})"
    yield Check(level, name, precision, unit, tuple(outputs), family, cause)
    if training:
        name = "train: running statistics of every batch norm"
        yield Check(level, name, precision, unit, tuple(statistics), family, cause)


def backward(case: Case, precision: str) -> Check:
    """Gradients of inputs and parameters."""
    if precision == "f64":
        case = case.with_all_digits
    found: list[Finding] = []
    family = cause = ""
    rng = np.random.default_rng(case.seed)
    ((count, size),) = case.shapes(True, precision)
    for layer in single_layers(case, count, size, training=True):
        findings, why = backward_of(layer, rng.normal(size=layer.output.shape), case, precision)
        found += findings
        if not cause:
            family, cause = why
    name = "every layer's backward pass on its own"
    return Check(4, name, precision, UNITS[precision], tuple(found), family, cause)


def forward_of(
    layer: Layer, case: Case, training: bool, precision: str
) -> tuple[list[Finding], causes.Cause]:
    """A layer's output, then its running statistics, and why they are wrong if they are."""
    path, x = layer.path, rounded(layer.input, precision)
    module, given = case.torch("f64").module(path).train(training), to_nchw(x, torch.float64)

    def reference(x: np.ndarray, precision: str) -> Arrays:
        return case.torch(precision).alone(path, x, training)

    def bounds() -> Arrays:
        with torch.no_grad():
            found = {path: to_nhwc(output_bound(module, given, training, precision))}
        if training and isinstance(module, nn.BatchNorm2d):
            mean, var = statistics_bound(module, given, precision)
            found |= {f"{path}.running_mean": to_float(mean), f"{path}.running_var": to_float(var)}
        return found

    ours = case.flax(precision).alone(path, x, training)
    findings = compare(ours, reference, x, precision, bounds)
    wrong, match = first_over(findings), causes.MATCHES[precision]
    if wrong is None:
        return findings, ("", "")
    value = ours[wrong.where]
    if isinstance(module, nn.BatchNorm2d) and wrong.where != path:
        return findings, causes.of_statistics(module, given, wrong.where.rpartition("_")[2], value, match)
    return findings, causes.of_layer(module, given, value, training, match)


def backward_of(
    layer: Layer, upstream: np.ndarray, case: Case, precision: str
) -> tuple[list[Finding], causes.Cause]:
    """The gradients of a layer's input and parameters, and why they are wrong if they are."""
    module = case.torch("f64").module(layer.path)
    x, upstream = rounded(layer.input, precision), rounded(upstream, precision)

    def reference(both: np.ndarray, precision: str) -> Arrays:
        x, upstream = np.split(both, [layer.input.size])
        given = x.reshape(layer.input.shape), upstream.reshape(layer.output.shape)
        return case.torch(precision).backward(layer.path, *given)

    ours = case.flax(precision).backward(layer.path, x, upstream)
    both = np.concatenate([x.ravel(), upstream.ravel()])  # noise is for all that goes in
    compared = compare(
        ours, reference, both, precision, lambda: gradient_bounds(module, x, upstream, precision)
    )
    findings = [Finding(f"{layer.path} d{f.where}", f.error, f.allowed) for f in compared]
    wrong = first_over(compared)
    if wrong is None:
        return findings, ("", "")
    family, words = causes.of_gradients(
        ours, reference(both, "f64"), len(x), wrong.where, causes.MATCHES[precision]
    )
    return findings, (family, f"{layer.path}: {words}")


def compare(
    ours: Arrays, reference: Reference, inputs: np.ndarray, precision: str, bounds: Callable[[], Arrays]
) -> list[Finding]:
    """Compare what a layer gives with PyTorch's.

    In float64 and float32: element by element with PyTorch in float64, within `bounds`. In bfloat16: in norm
    with PyTorch in bfloat16, within k times PyTorch's own error with this layer.
    """
    if precision == "bf16":
        theirs = reference(inputs, "bf16")
        allowed = scaled(reference_errors(reference, inputs, "bf16"), "bf16")
        return [Finding(name, distance(ours[name], theirs[name], "bf16"), allowed[name]) for name in theirs]
    theirs = reference(inputs, "f64")
    return [elementwise(name, ours[name], theirs[name], bound) for name, bound in bounds().items()]


def single_layers(case: Case, count: int, size: int, training: bool) -> Iterator[Layer]:
    """PyTorch's layers in float64, with inputs and outputs.

    No blocks: what they consist of is here, and the sum at their end is in whole networks.
    """
    side = case.torch("f64")
    for layer in side.forward(case.images(count, size), training).layers[:-1]:
        module = side.module(layer.path)
        if not isinstance(module, nn.Sequential) and not list(module.children()):
            yield layer


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """float64 numbers that a precision holds exactly, so that both engines get the same input."""
    if precision == "f64":
        return array
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    return torch.from_numpy(array).to(dtype).double().numpy()
