"""Levels 2 to 4: every layer on its own, from PyTorch's input; backwards, from a random gradient."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from parity.budgets.layer_bounds import gradient_bounds, output_bound, statistics_bound
from parity.budgets.reference import Arrays, Reference, distance, reference_errors, scaled
from parity.cause import MATCHES, Cause
from parity.engines import LayerCall, to_float, to_nchw, to_nhwc
from parity.result import Check, Finding, Findings, elementwise
from parity.verify.case import Case
from parity.verify.diagnose.batch_norm import of_statistics
from parity.verify.diagnose.layers import of_layer
from parity.verify.diagnose.training import of_gradients

PRECISIONS = ("f64", "f32", "bf16")
MODE = {False: "eval", True: "train"}
UNITS = {"f64": "largest element", "f32": "largest element", "bf16": "relative norm"}

Explained = tuple[Finding, Callable[[], Cause]]  # and why it fails, if it does


def forward(case: Case, training: bool, precision: str) -> Iterator[Check]:
    """Outputs, and in train mode the running statistics of batch norms as well."""
    if precision == "f64":
        case = case.with_all_digits
    shapes = case.shapes(training, precision)
    outputs, statistics = Findings(), Findings()
    for layer in (layer for shape in shapes for layer in single_layers(case, *shape, training)):
        for finding, why in forward_of(layer, case, training, precision):
            (outputs if finding.where == layer.path else statistics).add(finding, why=why)
    inputs = ", ".join(f"{count}×{size}²" for count, size in shapes)
    level, name = (3 if training else 2), f"{MODE[training]}: every layer on its own ({inputs})"
    yield outputs.check(level, name, precision, UNITS[precision])
    if training:
        name = "train: running statistics of every batch norm"
        yield statistics.check(level, name, precision, UNITS[precision])


def backward(case: Case, precision: str) -> Check:
    """Gradients of inputs and parameters."""
    if precision == "f64":
        case = case.with_all_digits
    found = Findings()
    rng = np.random.default_rng(case.seed)
    for shape in case.shapes(True, precision):
        for layer in single_layers(case, *shape, training=True):
            upstream = rng.normal(size=layer.output.shape)
            for finding, why in backward_of(layer, upstream, case, precision):
                found.add(finding, why=why)
    return found.check(4, "every layer's backward pass on its own", precision, UNITS[precision])


def hard_batch_norm(case: Case, precision: str) -> Check:
    """A batch norm of constant channels, of variances about eps, and of means far from zero.

    Networks' own activations are not like this. A variance taken in one pass, or a gradient without eps,
    shows here alone.
    """
    path = next(name.removesuffix(".running_mean") for name in case.model if name.endswith(".running_mean"))
    module = case.torch("f64").module(path)
    assert isinstance(module, nn.BatchNorm2d)
    rng = np.random.default_rng(case.seed)
    deviations = np.sqrt(module.eps) * 10.0 ** rng.uniform(-2, 2, module.num_features)
    deviations[0] = 0
    far = 1000 if precision == "f64" else 4  # deviations; in float32 a thousand leave too few digits
    means = far * np.maximum(deviations, np.sqrt(module.eps))
    x = means + deviations * rng.normal(size=(2, 3, 3, module.num_features))
    layer = LayerCall(path, type(module).__name__, x, x)
    upstream = rng.normal(size=x.shape)
    found = Findings()
    for finding, why in (
        *forward_of(layer, case, True, precision), *backward_of(layer, upstream, case, precision)
    ):  # fmt: skip
        found.add(finding, why=why)
    name = "train: a batch norm of constant channels and of large means"
    return found.check(3, name, precision, UNITS[precision])


def forward_of(layer: LayerCall, case: Case, training: bool, precision: str) -> list[Explained]:
    """A layer's output, then its running statistics."""
    path, x = layer.path, rounded(layer.input, precision)
    module, given = case.torch("f64").module(path).train(training), to_nchw(x, torch.float64)
    match = MATCHES[precision]

    def reference(x: np.ndarray, precision: str) -> Arrays:
        return case.torch(precision).alone(path, x, training)

    def bounds() -> Arrays:
        with torch.no_grad():
            found = {path: to_nhwc(output_bound(module, given, training, precision))}
        if training and isinstance(module, nn.BatchNorm2d):
            mean, var = statistics_bound(module, given, precision)
            found |= {f"{path}.running_mean": to_float(mean), f"{path}.running_var": to_float(var)}
        return found

    def why(where: str) -> Cause:
        if isinstance(module, nn.BatchNorm2d) and where != path:
            return of_statistics(module, given, where.rpartition("_")[2], ours[where], match)
        return of_layer(module, given, ours[where], training, match)

    ours = case.flax(precision).alone(path, x, training)
    found = compare(ours, reference, x, precision, bounds)
    return [(finding, functools.partial(why, finding.where)) for finding in found]


def backward_of(layer: LayerCall, upstream: np.ndarray, case: Case, precision: str) -> list[Explained]:
    """The gradients of a layer's input and parameters."""
    module = case.torch("f64").module(layer.path)
    x, upstream = rounded(layer.input, precision), rounded(upstream, precision)

    def reference(both: np.ndarray, precision: str) -> Arrays:
        x, upstream = np.split(both, [layer.input.size])
        given = x.reshape(layer.input.shape), upstream.reshape(layer.output.shape)
        return case.torch(precision).backward(layer.path, *given)

    def why(where: str) -> Cause:
        cause = of_gradients(ours, reference(both, "f64"), len(x), where, MATCHES[precision])
        return Cause(cause.family, f"{layer.path}: {cause.words}")

    ours = case.flax(precision).backward(layer.path, x, upstream)
    both = np.concatenate([x.ravel(), upstream.ravel()])  # noise is for all that goes in
    found = compare(ours, reference, both, precision, lambda: gradient_bounds(module, x, upstream, precision))
    return [
        (
            dataclasses.replace(finding, where=f"{layer.path} d{finding.where}"),
            functools.partial(why, finding.where),
        )
        for finding in found
    ]


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


def single_layers(case: Case, count: int, size: int, training: bool) -> Iterator[LayerCall]:
    """PyTorch's layers in float64, with inputs and outputs.

    No blocks: their layers are here, and their sum is compared end to end.
    """
    network = case.torch("f64")
    for layer in network.forward(case.images(count, size), training).layers[:-1]:
        module = network.module(layer.path)
        if not isinstance(module, nn.Sequential) and not list(module.children()):
            yield layer


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """float64 numbers that a precision holds exactly, so that both engines get the same input."""
    if precision == "f64":
        return array
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    return torch.from_numpy(array).to(dtype).double().numpy()
