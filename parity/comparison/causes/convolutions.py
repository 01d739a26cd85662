"""Known mistakes of convolutions, of one to three axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.comparison.causes.evidence import Alternative, Evidence

FAMILY = "convolution"
RUN = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """Results of a convolution with one mistake each."""
    conv: Any = given.module
    x, w, n = given.x, conv.weight, conv.weight.ndim - 2
    space = tuple(range(2, n + 2))
    stride, dilation = tuple(conv.stride), tuple(conv.dilation)
    if conv.padding == "same":
        even = _same(x, conv)
    else:
        even = [(0, 0)] * n if conv.padding == "valid" else [(p, p) for p in conv.padding]

    def run(
        kernel: Tensor, pads: Any = even, stride: Any = stride, bias: Any = conv.bias, **given: Any
    ) -> Tensor:
        groups = given.pop("groups", conv.groups)
        flat = [side for pair in reversed(pads) for side in pair]
        mode = given.pop("mode", "constant")
        padded = F.pad(given.pop("images", x), flat, mode=mode)
        return RUN[n](padded, kernel, bias, stride, 0, given.pop("dilation", dilation), groups)

    yield FAMILY, "the kernel is flipped (a true convolution)", lambda: run(w.flip(space))
    for axis, name in zip(space, ("height", "width", "depth") if n > 1 else ("length",), strict=False):
        yield FAMILY, f"the kernel is mirrored along its {name}", lambda axis=axis: run(w.flip(axis))
    if n > 1:
        yield FAMILY, "height and width of the kernel are swapped", lambda: run(w.transpose(2, 3))
    yield FAMILY, "input and output channels of the kernel are swapped", lambda: run(w.transpose(0, 1))
    yield FAMILY, "the input channels are in reverse order", lambda: run(w.flip(1))
    yield FAMILY, "the output channels are in reverse order", lambda: run(w.flip(0))
    same = _same(x, conv)
    if same != even:
        yield (
            FAMILY,
            f"padding is SAME, {same[-1]} at stride {stride[-1]}, instead of {even[-1]}",
            lambda: run(w, same),
        )
    for words, pads in {
        "padded on the far side only": [(0, a + b) for a, b in even],
        "padded on the near side only": [(a + b, 0) for a, b in even],
        "no padding": [(0, 0)] * n,
        "padding is 1": [(1, 1)] * n,
    }.items():
        yield FAMILY, words, lambda pads=pads: run(w, pads)[tuple(slice(0, d) for d in given.ours.shape)]
    for mode in ("replicate", "circular", "reflect"):
        yield FAMILY, f"padded by the mode {mode!r} instead of zeros", lambda mode=mode: run(w, mode=mode)
    yield FAMILY, "padded with zeros, not by its mode", lambda: run(w)
    yield FAMILY, "the bias is not added", lambda: run(w, bias=None)
    yield FAMILY, "the bias is added twice", lambda: run(w, bias=2 * conv.bias)
    for other in (1, 2, 3):
        yield FAMILY, f"stride {other} instead of {stride[0]}", lambda s=other: run(w, stride=s)
        yield FAMILY, f"dilation {other} instead of {dilation[0]}", lambda d=other: run(w, dilation=d)
    if conv.groups > 1:
        yield from _of_groups(given, conv, run)
    for name, bits in (("TF32", 10), ("bfloat16", 7)):
        yield (
            "precision", f"input and kernel are rounded to {name}, which has {bits} bits behind the point",
            lambda bits=bits: run(_rounded(w, bits), images=_rounded(x, bits)),
        )  # fmt: skip


def _of_groups(given: Evidence, conv: Any, run: Any) -> Iterator[Alternative]:
    w, groups = conv.weight, conv.groups
    each = w.shape[0] // groups

    def regrouped(t: Tensor, first: int, second: int) -> Tensor:
        return t.reshape(first, second, *t.shape[1:]).transpose(0, 1).reshape(t.shape)

    yield (
        FAMILY, "the output channels of the groups are interleaved the other way",
        lambda: regrouped(run(w).transpose(0, 1), groups, each).transpose(0, 1),
    )  # fmt: skip
    yield (
        FAMILY, "the kernels of the groups are interleaved the other way",
        lambda: run(regrouped(w, groups, each)),
    )  # fmt: skip
    yield (
        FAMILY, "the kernels of the groups are interleaved the other way",
        lambda: run(regrouped(w, each, groups)),
    )  # fmt: skip


def transposed_mistakes(given: Evidence) -> Iterator[Alternative]:
    """Results of a transposed convolution with one mistake each."""
    conv: Any = given.module
    x, w, n = given.x, conv.weight, conv.weight.ndim - 2
    space = tuple(range(2, n + 2))

    def run(
        kernel: Tensor, padding: Any = conv.padding, extra: Any = conv.output_padding, bias: Any = conv.bias
    ) -> Tensor:
        return TRANSPOSED[n](x, kernel, bias, conv.stride, padding, extra, conv.groups, conv.dilation)

    def cropped(before: int) -> Tensor:
        whole = run(w, 0, 0, None)
        whole = F.pad(whole, [0, max(given.ours.shape)] * n)
        index = (slice(None), slice(None), *(slice(before, before + d) for d in given.ours.shape[2:]))
        return whole[index] + (0 if conv.bias is None else conv.bias.reshape(1, -1, *[1] * n))

    yield (
        FAMILY,
        "the kernel is not flipped, as PyTorch's transposed convolution does",
        lambda: run(w.flip(space)),
    )
    yield FAMILY, "input and output channels of the kernel are swapped", lambda: run(w.transpose(0, 1))
    if n > 1:
        yield FAMILY, "height and width of the kernel are swapped", lambda: run(w.transpose(2, 3))
        turned = w.transpose(2, 3).flip(space)
        yield FAMILY, "the kernel is not flipped, and its height and width are swapped", lambda: run(turned)
    yield FAMILY, "the bias is not added", lambda: run(w, bias=None)
    for before in range(4):
        yield FAMILY, f"its result is cropped from {before} on (SAME or VALID)", lambda b=before: cropped(b)


def _rounded(x: Tensor, bits: int) -> Tensor:
    """Values rounded to so many binary digits behind the first, half to even."""
    fraction, exponent = torch.frexp(x)  # from a half to one
    return torch.ldexp(torch.round(torch.ldexp(fraction, torch.tensor(bits + 1))), exponent - bits - 1)


def _same(x: Tensor, conv: Any) -> list[tuple[int, int]]:
    """What SAME pads in JAX: lopsided where it can't be even."""
    pads = []
    for size, kernel, stride, dilation in zip(
        x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True
    ):
        reach = (kernel - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads
