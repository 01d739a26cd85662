"""Known mistakes of a layer: convolution, linear layer and what works element by element.

Those of a batch norm have a file of their own, batch_norm.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.cause import (
    MATCH,
    UNKNOWN,
    Alternatives,
    Cause,
    first_match,
    scale_or_rounding,
)
from parity.engines import to_nhwc
from parity.verify.diagnose import batch_norm


def of_layer(module: nn.Module, x: Tensor, output: np.ndarray, training: bool, match: float = MATCH) -> Cause:
    """Why a layer's output is not PyTorch's, given PyTorch's input (NCHW); the output is NHWC."""
    with torch.no_grad():
        alternatives = mistakes(module, x, training)
        expected = to_nhwc(copy.deepcopy(module).train(training)(x))  # a batch norm would count this
        return (
            first_match(alternatives, output, match, expected)
            or scale_or_rounding(output, expected, match)
            or UNKNOWN
        )


def mistakes(module: nn.Module, x: Tensor, training: bool) -> Alternatives:
    """The known mistakes of a layer, for PyTorch's input (NCHW): family, words, what it would give (NHWC)."""
    makers: dict[type, Callable[..., Alternatives]] = {
        nn.Conv2d: _convolutions, nn.BatchNorm2d: batch_norm.mistakes, nn.Linear: _linears,
    }  # fmt: skip
    return makers.get(type(module), _elementwise)(module, x, training)


def _convolutions(conv: nn.Conv2d, x: Tensor, training: bool) -> Alternatives:
    w, stride, padding = conv.weight, conv.stride[0], int(conv.padding[0])

    def run(kernel: Tensor, pad: tuple[int, int, int, int], stride: int = stride) -> np.ndarray:
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
        yield family, f"stride {other} instead of {stride}", functools.partial(run, w, even, other)
    yield family, "a ReLU too much, behind it", lambda: np.maximum(run(w, even), 0)


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
