"""Likely causes: the known mistakes, tried until one reproduces the wrong numbers.

A cause is named only when PyTorch, making the same mistake on the same input, gives the other engine's
numbers to what `MATCHES` says of its precision. Where none does, the report has the place and the size of the
error, and says so.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.budgets.reference import Arrays
from parity.engines import Layer, Pass, to_nhwc
from parity.verify.result import Finding, first_over

# of the largest element, by the precision of what ran; in float64 the right cause agrees to about 1e-14
MATCHES = {"f64": 1e-9, "f32": 1e-5, "bf16": 2e-2}
MATCH = MATCHES["f64"]
FAMILIES = (
    "structure", "convolution", "linear layer", "batch norm", "running statistics", "activation", "wiring",
    "pooling", "loss", "gradient", "weight decay", "momentum", "learning rate", "pipeline", "precision",
    "state", "native kernels", "unknown",
)  # fmt: skip

Cause = tuple[str, str]  # family, and what happened in words
Alternatives = Iterable[tuple[str, str, Callable[[], Any]]]  # family, words, what it would give


def of_layer(module: nn.Module, x: Tensor, output: np.ndarray, training: bool, match: float = MATCH) -> Cause:
    """Why a layer's output is not PyTorch's, given PyTorch's input (NCHW); the output is NHWC."""
    with torch.no_grad():
        alternatives = mistakes(module, x, training)
        expected = to_nhwc(copy.deepcopy(module).train(training)(x))  # a batch norm would count this
        return (
            _first(alternatives, output, match, expected)
            or _scale_or_rounding(output, expected, match)
            or _unknown()
        )


def mistakes(module: nn.Module, x: Tensor, training: bool) -> Alternatives:
    """The known mistakes of a layer, for PyTorch's input (NCHW): family, words, what it would give (NHWC)."""
    makers: dict[type, Callable[..., Alternatives]] = {
        nn.Conv2d: _convolutions, nn.BatchNorm2d: _batch_norms, nn.Linear: _linears,
    }  # fmt: skip
    return makers.get(type(module), _elementwise)(module, x, training)


def of_statistics(
    module: nn.BatchNorm2d, x: Tensor, name: str, new: np.ndarray, match: float = MATCH
) -> Cause:
    """Why a running mean or variance after a step is not PyTorch's."""
    old = getattr(module, f"running_{name}").detach().numpy()
    m, n = float(module.momentum or 0), x.numel() // x.shape[1]
    if name == "mean":
        batch = biased = x.mean((0, 2, 3)).detach().numpy()
    else:
        batch, biased = (x.var((0, 2, 3), correction=c).detach().numpy() for c in (1, 0))
    family = "running statistics"
    factor = f"{n / (n - 1):.6f} = n/(n−1) with n = {n}"
    found = _first(
        [
            (family, f"the biased variance is stored: off by the Bessel factor {factor}",
             lambda: (1 - m) * old + m * biased),
            (family, "momentum by the other convention, m·old + (1 − m)·new",
             lambda: m * old + (1 - m) * batch),
            (family, "momentum by the other convention, and the biased variance (Bessel factor) as well",
             lambda: m * old + (1 - m) * biased),
            (family, "not updated", lambda: old),
            (family, "replaced by the batch's, not averaged", lambda: batch),
            (family, "the deviation instead of the variance", lambda: (1 - m) * old + m * np.sqrt(batch)),
        ],
        new,
        match,
        expected := (1 - m) * old + m * batch,
    )  # fmt: skip
    if found:
        return found
    weights = (new - old) / np.where(batch == old, np.inf, batch - old)
    if np.ptp(weights) <= match:
        return family, f"momentum is {weights.mean():.6g} instead of {m:g}"
    return _scale_or_rounding(new, expected, match) or _unknown()


def of_wiring(ours: Pass, theirs: Pass, findings: list[Finding]) -> Cause:
    """Why whole networks differ, though (or before) their layers agree one by one."""
    first = first_over(findings)
    assert first is not None
    path = first.where
    if path.endswith("(on one side only)"):
        return "wiring", f"the engines do not run the same layers: {path}"
    index = next(i for i, name in enumerate(theirs.outputs) if name == path)
    layer, reference = ours.layers[index], theirs.layers[index]
    earlier = theirs.layers[:index]
    if _close(layer.input, reference.input):
        sums = _block_sums(reference, earlier)
        if sums:
            family, words = either(sums[0][2], sums[1:], layer.output, reference.output)
            if family in ("unknown", "precision"):
                return "wiring", f"{path}: its layers are right, their sum is not ({words})"
            return family, words
        return "unknown", f"{path}: its input is right, its output is not: see this layer on its own"
    producer = earlier[-1].path if earlier else "the images"
    found = _first(_inputs(reference, earlier), layer.input)
    if not found:  # or the mistake is PyTorch's
        index = next(i for i, other in enumerate(ours.layers) if other is layer)
        found = _first(_inputs(layer, ours.layers[:index]), reference.input)
        found = found and (found[0], f"in PyTorch: {found[1]}")
    return found or ("wiring", f"{path} gets another input: between {producer} and {path}")


def of_loss(
    ours: float, theirs: float, batch: int, smoothing: float, plain_ours: float, plain_theirs: float
) -> Cause:
    """Why the loss differs; the plain ones are without label smoothing."""
    for words, a, b in (
        (f"the sum over the batch of {batch} instead of the mean", ours, theirs * batch),
        (f"in PyTorch: the sum over the batch of {batch} instead of the mean", ours * batch, theirs),
        ("label smoothing is not applied", ours, plain_theirs),
        ("the mean is taken twice", ours * batch, theirs),
    ):
        if abs(a - b) <= MATCH * abs(b):
            return "loss", words
    if smoothing and abs(plain_ours - plain_theirs) <= MATCH * abs(plain_theirs):
        acts = smoothing * (ours - plain_ours) / (theirs - plain_theirs)  # the loss is linear in it
        return "loss", f"without label smoothing the losses agree; it acts like {acts:.6g}, not {smoothing:g}"
    return _scale_or_rounding(np.asarray(ours), np.asarray(theirs)) or ("loss", "the loss itself differs")


def of_gradients(
    ours: Arrays,
    theirs: Arrays,
    batch: int,
    first: str,
    match: float = MATCH,
) -> Cause:
    """Why gradients differ though the loss agrees; `first` is the one nearest to the loss that does."""
    ratios = {name: _ratio(ours[name], theirs[name], match) for name in theirs}
    known = [ratio for ratio in ratios.values() if ratio is not None]
    if len(known) == len(ratios) and np.ptp(known) <= match * abs(known[0]):
        ratio = known[0]
        words = f"every gradient is {ratio:.6g} times PyTorch's"
        if abs(ratio - batch) <= match * batch:
            words += f", the batch size: of a loss summed instead of averaged over {batch} examples"
        return "loss", words
    if not np.any(ours[first]):
        return "gradient", f"{first} gets no gradient at all"
    return _scale_or_rounding(ours[first], theirs[first], match) or (
        "gradient", f"backwards from the loss, {first} is the first that differs"
    )  # fmt: skip


def either(
    right: Callable[[], Any], alternatives: Alternatives, ours: np.ndarray, theirs: np.ndarray
) -> Cause:
    """The first alternative that explains the side that is wrong: the one which `right` does not give."""
    alternatives = list(alternatives)
    if not _close(ours, np.asarray(right())):
        return _first(alternatives, ours) or _scale_or_rounding(ours, theirs) or _unknown()
    family, words = _first(alternatives, theirs) or _scale_or_rounding(theirs, ours) or _unknown()
    return family, f"in PyTorch: {words}"


def _convolutions(conv: nn.Conv2d, x: Tensor, training: bool) -> Alternatives:
    w, stride, padding = conv.weight, conv.stride[0], int(conv.padding[0])

    def run(kernel: Tensor, pad: tuple[int, int, int, int]) -> np.ndarray:
        return to_nhwc(F.conv2d(F.pad(x, pad), kernel, None, stride))

    even = (padding,) * 4
    size = conv.kernel_size[0]
    total = max(size - stride, 0) if x.shape[-1] % stride == 0 else max(size - x.shape[-1] % stride, 0)
    same = (total // 2, total - total // 2) * 2
    family = "convolution"
    yield family, "the kernel is flipped (a true convolution)", lambda: run(w.flip(2, 3), even)
    yield family, "the kernel is mirrored left-right", lambda: run(w.flip(3), even)
    yield family, "the kernel is mirrored top-bottom", lambda: run(w.flip(2), even)
    yield family, "height and width of the kernel are swapped", lambda: run(w.transpose(2, 3), even)
    yield family, "input and output channels of the kernel are swapped", lambda: run(w.transpose(0, 1), even)
    yield family, "the input channels are in reverse order", lambda: run(w.flip(1), even)
    yield family, "the output channels are in reverse order", lambda: run(w.flip(0), even)
    if same != even:
        yield family, f"padding is SAME, lopsided at stride {stride}: {same[:2]}", lambda: run(w, same)
    yield family, "padded on the far side only", lambda: run(w, (0, 2 * padding, 0, 2 * padding))
    yield family, "padded on the near side only", lambda: run(w, (2 * padding, 0, 2 * padding, 0))
    yield family, "no padding", lambda: run(w, (0, 0, 0, 0))
    yield family, f"padded with zeros, not by the mode {conv.padding_mode!r}", lambda: run(w, even)
    yield (
        family,
        "padding repeats the border",
        lambda: to_nhwc(F.conv2d(F.pad(x, even, mode="replicate"), w, None, stride)),
    )
    yield (
        family,
        "padding wraps around",
        lambda: to_nhwc(F.conv2d(F.pad(x, even, mode="circular"), w, None, stride)),
    )
    for other in {1, 2, 3} - {stride}:
        wrong = _nhwc_of(functools.partial(F.conv2d, F.pad(x, even), w, None, other))
        yield family, f"stride {other} instead of {stride}", wrong
    yield family, "a ReLU too much, behind it", lambda: np.maximum(run(w, even), 0)


def _batch_norms(norm: nn.BatchNorm2d, x: Tensor, training: bool) -> Alternatives:
    mean: Any = norm.running_mean
    var: Any = norm.running_var
    batch_mean, biased = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    if training:
        mean, var, other = batch_mean, biased, (norm.running_mean, norm.running_var)
    else:
        other = (batch_mean, biased)

    def run(
        m: Any, v: Any, eps: float = norm.eps, scale: Any = norm.weight, bias: Any = norm.bias
    ) -> np.ndarray:
        c = (None, slice(None), None, None)
        y = (x - m[c]) / torch.sqrt(v[c] + eps)
        return to_nhwc(y * scale[c] + bias[c])

    family, one, zero = "batch norm", torch.ones_like(norm.weight), torch.zeros_like(norm.weight)
    wrong = "running statistics in train mode" if training else "the batch's statistics in eval mode"
    yield family, f"it normalises with the {wrong.removeprefix('the ')}", lambda: run(*other)
    for eps in (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 0.0):
        yield family, f"eps is {eps:g} instead of {norm.eps:g}", functools.partial(run, mean, var, eps)
    yield family, "it normalises with the unbiased variance", lambda: run(mean, x.var((0, 2, 3)))
    about_zero = x.square().mean((0, 2, 3))
    yield family, "its variance is taken about zero, not about the mean", lambda: run(mean, about_zero)
    yield family, "the scale is not applied", lambda: run(mean, var, scale=one)
    yield family, "the bias is not applied", lambda: run(mean, var, bias=zero)
    yield family, "the mean is not subtracted", lambda: run(zero, var)
    yield family, "it divides by the variance, not by its root", lambda: run(mean, (var + norm.eps) ** 2, 0.0)
    yield (
        family,
        "eps is added outside of the root",
        lambda: run(mean, (torch.sqrt(var) + norm.eps) ** 2, 0.0),
    )
    yield family, "scale and bias are swapped", lambda: run(mean, var, scale=norm.bias, bias=norm.weight)
    yield family, "1 + scale instead of scale", lambda: run(mean, var, scale=1 + norm.weight)
    per_image = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    c = (None, slice(None), None, None)
    yield (
        family,
        "statistics of each image alone",
        lambda: to_nhwc(
            (x - per_image[0]) / torch.sqrt(per_image[1] + norm.eps) * norm.weight[c] + norm.bias[c]
        ),
    )
    half = x[: max(1, len(x) // 2)]
    yield (
        family,
        "statistics of half of the batch",
        lambda: run(half.mean((0, 2, 3)), half.var((0, 2, 3), correction=0)),
    )
    yield "activation", "a ReLU too much, behind it", lambda: np.maximum(run(mean, var), 0)


def _linears(linear: nn.Linear, x: Tensor, training: bool) -> Alternatives:
    family = "linear layer"
    yield family, "the bias is not added", lambda: to_nhwc(F.linear(x, linear.weight))
    yield family, "the inputs are in reverse order", lambda: to_nhwc(linear(x.flip(1)))
    yield family, "the outputs are in reverse order", lambda: to_nhwc(linear(x).flip(1))
    yield family, "the bias is subtracted", lambda: to_nhwc(F.linear(x, linear.weight, -linear.bias))
    yield family, "a softmax too much, behind it", lambda: to_nhwc(linear(x).softmax(1))


def _elementwise(module: nn.Module, x: Tensor, training: bool) -> Alternatives:
    family = "activation" if isinstance(module, nn.ReLU) else "wiring"
    yield family, "it does nothing", lambda: to_nhwc(x)
    yield family, "a leaky ReLU", lambda: to_nhwc(F.leaky_relu(x))
    yield family, "capped at 6", lambda: to_nhwc(F.relu6(x))
    yield family, "a smooth function (GELU)", lambda: to_nhwc(F.gelu(x))
    yield family, "a smooth function (SiLU)", lambda: to_nhwc(F.silu(x))
    yield family, "the absolute value", lambda: to_nhwc(x.abs())
    stride, pad = getattr(module, "stride", 1), getattr(module, "pad", 0)
    if pad:
        thin = x[:, :, ::stride, ::stride]
        yield (
            family,
            "all new channels are at the end",
            lambda: to_nhwc(F.pad(thin, (0, 0, 0, 0, 0, 2 * pad))),
        )
        yield (
            family,
            "all new channels are at the beginning",
            lambda: to_nhwc(F.pad(thin, (0, 0, 0, 0, 2 * pad, 0))),
        )
        yield (
            family,
            "it takes the odd pixels",
            lambda: to_nhwc(F.pad(x[:, :, 1::stride, 1::stride], (0, 0, 0, 0, pad, pad))),
        )
        yield (
            "pooling",
            "it averages pixels instead of taking every second one",
            lambda: to_nhwc(F.pad(F.avg_pool2d(x, stride), (0, 0, 0, 0, pad, pad))),
        )


def _block_sums(block: Layer, earlier: list[Layer]) -> list[tuple[str, str, Callable[[], Any]]]:
    """What a residual block could give instead of relu(y + x)."""
    inner = [layer for layer in earlier if layer.path.startswith(f"{block.path}.")]
    main = [layer for layer in inner if ".shortcut" not in layer.path]
    if not main:
        return []
    shortcut = [layer for layer in inner if ".shortcut" in layer.path]
    y, x = main[-1].output, shortcut[-1].output if shortcut else block.input
    relu = lambda value: np.maximum(value, 0)  # noqa: E731
    name = block.path
    return [
        ("", "right", lambda: relu(y + x)),
        ("activation", f"{name}: no ReLU after the sum", lambda: y + x),
        ("activation", f"{name}: the ReLU comes before the sum", lambda: relu(y) + x),
        ("activation", f"{name}: a ReLU before the sum, and one after it", lambda: relu(relu(y) + x)),
        ("wiring", f"{name}: the shortcut is not added", lambda: relu(y)),
        ("wiring", f"{name}: the main path is not added", lambda: relu(x)),
        ("wiring", f"{name}: the shortcut is subtracted", lambda: relu(y - x)),
        ("wiring", f"{name}: the shortcut is added twice", lambda: relu(y + 2 * x)),
        ("wiring", f"{name}: the mean of both paths instead of the sum", lambda: relu((y + x) / 2)),
    ]


def _inputs(layer: Layer, earlier: list[Layer]) -> list[tuple[str, str, Callable[[], Any]]]:
    """What a layer could have got instead of its input."""
    found: list[tuple[str, str, Callable[[], Any]]] = []
    if earlier:
        before = torch.from_numpy(earlier[-1].output)
        if before.ndim == 4:
            x = before.permute(0, 3, 1, 2)
            pools = {
                "an average pool instead of a max-pool": lambda: F.avg_pool2d(x, 3, 2, 1),
                "an average pool that leaves the padding out": lambda: F.avg_pool2d(
                    x, 3, 2, 1, count_include_pad=False
                ),
                "a max-pool padded on the far side only": lambda: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2),
                "a max-pool without padding": lambda: F.max_pool2d(x, 3, 2),
                "a max-pool of 2×2": lambda: F.max_pool2d(x, 2),
                "a max-pool that is not there in PyTorch": lambda: F.max_pool2d(x, 3, 2, 1),
                "the maximum over the image instead of the mean": lambda: x.amax((2, 3)),
                "the sum over the image instead of the mean": lambda: x.sum((2, 3)),
                "one pixel instead of the mean over the image": lambda: x[:, :, 0, 0],
            }
            for words, pool in pools.items():
                found.append(("pooling", f"before {layer.path}: {words}", _nhwc_of(pool)))
    expected = "the images" if not earlier else earlier[-1].path
    for other in reversed(earlier):
        activation = "relu" in expected and "bn" in other.path
        found.append(
            ("activation" if activation else "wiring",
             f"{layer.path} gets the output of {other.path} instead of {expected}'s",
             _value(other.output))
        )  # fmt: skip
        found.append(
            ("activation" if other.kind == "ReLU" else "wiring",
             f"{layer.path} gets the input of {other.path} instead of {expected}'s output",
             _value(other.input))
        )  # fmt: skip
    found.append(
        ("activation", f"{layer.path}: a ReLU too much, before it", lambda: np.maximum(layer.input, 0))
    )
    return found


def _value(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def _nhwc_of(make: Callable[[], Tensor]) -> Callable[[], np.ndarray]:
    return lambda: to_nhwc(make())


def _first(
    alternatives: Alternatives, value: np.ndarray, match: float = MATCH, right: np.ndarray | None = None
) -> Cause | None:
    """The first mistake that gives a value; not one that gives what is right, as far as `match` can tell."""
    for family, words, make in alternatives:
        try:
            candidate = make()
        except (RuntimeError, IndexError, ValueError):  # shapes that this mistake can't have
            continue
        if right is not None and _close(right, np.asarray(candidate), match):
            continue
        if _close(value, np.asarray(candidate), match):
            return family, words
    return None


def _close(a: np.ndarray, b: np.ndarray, match: float = MATCH) -> bool:
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return float(np.abs(a - b).max(initial=0)) <= match * float(np.abs(b).max(initial=0))


def _ratio(a: np.ndarray, b: np.ndarray, match: float) -> float | None:
    """a/b if it is one number for all elements."""
    norm = float(np.vdot(b, b))
    if a.shape != b.shape or not norm:
        return None
    ratio = float(np.vdot(a, b)) / norm
    return ratio if _close(a, ratio * b, match) and ratio else None


def _scale_or_rounding(ours: np.ndarray, theirs: np.ndarray, match: float = MATCH) -> Cause | None:
    """A constant factor, or an error of the size that a lower precision makes."""
    if ours.shape != theirs.shape:
        return "wiring", f"its shape is {ours.shape} instead of {theirs.shape}"
    if not np.isfinite(ours).all():
        return "unknown", f"{int((~np.isfinite(ours)).sum())} values are not finite"
    error = float(np.abs(ours - theirs).max(initial=0)) / (float(np.abs(theirs).max(initial=0)) or 1)
    for name, unit in (("float32", 2.0**-24), ("bfloat16", 2.0**-8)):
        if unit / 50 < error < unit * 10:
            return "precision", f"errors of {error:.1g} of the largest element, about {name}'s rounding"
    if error < 2.0**-24 / 50:
        return "precision", f"errors of {error:.1g} of the largest element, more than float64's rounding"
    ratio = _ratio(ours, theirs, match)
    return ("unknown", f"it is {ratio:.9g} times PyTorch's") if ratio else None


def _unknown() -> Cause:
    return "unknown", "no known mistake gives these numbers"
