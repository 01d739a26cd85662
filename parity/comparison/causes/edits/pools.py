"""Mistakes in pools and in pictures that are made larger or smaller."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parity.comparison.causes.edits.common import Edit, each, result
from parity.comparison.sides.torch_tape import Piece

POOLS = ("max_pool2d", "avg_pool2d", "max_pool1d", "avg_pool1d")
MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d}
MEAN: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d}


def pools(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Windows at other places, the padding counted or not, the other pool."""
    step = piece[numbers[0]]
    if step.name not in POOLS:
        return
    y = result(step)
    given = _settings(piece, numbers[0])
    kernel, stride, padding = given["kernel_size"], given["stride"], given["padding"]
    is_max = step.name.startswith("max")
    total = [_total(n, k, s) for n, k, s in zip(given["sizes"], kernel, stride, strict=True)]
    same = [(t // 2, t - t // 2) for t in total]
    even = [(p, p) for p in padding]

    def change(pads: Any, maximum: bool = is_max, **how: Any) -> dict[int, Any]:
        run = lambda x, *_, **__: windows(x, kernel, stride, pads, maximum, like=y, **how)  # noqa: E731
        return each(numbers, run)

    of = "pooling"
    if same != even:
        words = f"padding is SAME, {same[-1]} at stride {stride[-1]}, instead of {even[-1]}"
        yield of, words, change(same)
        yield of, f"{words}, and left out of the mean", change(same, counted=False)
    if is_max:
        yield of, "it is padded with zeros, not with minus infinity", change(even, filled=0.0)
        yield of, "SAME padding with zeros, not with minus infinity", change(same, filled=0.0)
    else:
        yield (
            of,
            "the padding does not count in the mean (count_include_pad=False)",
            change(even, counted=False),
        )
        yield of, "the padding counts in the mean (count_include_pad=True)", change(even)
    far = [(a, b + s - 1) for (a, b), s in zip(even, stride, strict=True)]
    yield of, "windows that reach over the edge count (ceil_mode)", change(far, counted=False)
    yield of, "no padding", change([(0, 0)] * len(kernel))
    yield of, "padded on the far side only", change([(0, a + b) for a, b in even])
    yield of, "padded on the near side only", change([(a + b, 0) for a, b in even])
    kind = "an average" if is_max else "a maximum"
    yield of, f"it is {kind}", change(even, not is_max)
    yield of, f"it is {kind}, without the padding", change(even, not is_max, counted=False)
    for size in (2, 3):
        words = f"the window is {size} instead of {kernel[-1]}"
        run = lambda x, *_, s=size, **__: windows(x, [s] * len(kernel), stride, even, is_max, like=y)  # noqa: E731
        yield of, words, each(numbers, run)


def resizing(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Another way to resize."""
    step = piece[numbers[0]]
    if step.name not in ("interpolate", "upsample"):
        return
    y = result(step)
    kwargs = piece.arguments(numbers[0])[1]
    now = kwargs.get("mode", "nearest"), bool(kwargs.get("align_corners"))
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        for corners in (None,) if mode not in ("bilinear", "bicubic") else (False, True):
            for antialias in (False, True) if mode in ("bilinear", "bicubic") else (False,):
                if (mode, bool(corners)) == now and antialias == bool(kwargs.get("antialias")):
                    continue
                words = f"{mode} instead of {now[0]}" if mode != now[0] else mode
                words += "" if corners is None else f", align_corners={corners}"
                words += ", with antialias" if antialias else ""
                how = {"mode": mode, "align_corners": corners, "antialias": antialias}
                yield "pooling", words, each(numbers, functools.partial(_resized, y.shape[2:], how))


def _resized(size: Sequence[int], how: dict[str, Any], x: Tensor, *_: Any, **__: Any) -> Tensor:
    return F.interpolate(x, size=tuple(size), **how)


def windows(
    x: Tensor, kernel: list[int], stride: list[int], pads: Sequence[tuple[int, int]], maximum: bool,
    *, like: Tensor, filled: float = -torch.inf, counted: bool = True,
) -> Tensor:  # fmt: skip
    """A pool of any padding; its result is cut to a shape."""
    n = len(kernel)
    flat = [side for pair in reversed(pads) for side in pair]
    if maximum:
        found = MAX[n](F.pad(x, flat, value=filled), kernel, stride)
    else:
        pool = MEAN[n]
        found = pool(F.pad(x, flat), kernel, stride)
        if not counted:
            found = found / pool(F.pad(torch.ones_like(x), flat), kernel, stride)
    return found[tuple(slice(0, d) for d in like.shape)]


def _settings(piece: Piece, number: int) -> dict[str, Any]:
    """Kernel, stride and padding of a pool, one number per axis."""
    args, kwargs = piece.arguments(number)
    x = args[0]
    n = 1 if piece[number].name.endswith("1d") else 2
    names = ("kernel_size", "stride", "padding")
    given = dict(zip(names, args[1:4], strict=False)) | {k: v for k, v in kwargs.items() if k in names}

    def every(value: Any) -> list[int]:
        return [value] * n if isinstance(value, int) else list(value)

    kernel = every(given["kernel_size"])
    stride = every(given.get("stride") or kernel)
    return {
        "kernel_size": kernel, "stride": stride, "padding": every(given.get("padding", 0)),
        "sizes": x.shape[-n:],
    }  # fmt: skip


def _total(size: int, kernel: int, stride: int) -> int:
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)
