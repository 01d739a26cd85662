"""Mistakes in masks and in attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from parity.comparison.causes.edits.common import Edit, each, family, numbers_in, result, with_argument
from parity.comparison.sides.torch_tape import Piece

BLIND = "a query whose keys are all masked"
MASKED = -1e30  # scores below are masked
COMPARISONS = {"lt": torch.lt, "le": torch.le, "gt": torch.gt, "ge": torch.ge}


def masks(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A mask that is left out, inverted, of the other axis, or off by one."""
    step = piece[numbers[0]]
    if step.function is None:
        return
    of = family(piece, numbers[0])
    y = result(step)
    if step.name in ("tril", "triu"):
        for shift in (1, -1):
            words = f"the diagonal of {step.name} is off by {shift}"
            change = lambda x, k=0, *_, s=shift, **kw: step.function(x, kw.get("diagonal", k) + s)  # noqa: E731
            yield of, words, each(numbers, change)
        name = "triu" if step.name == "tril" else "tril"
        other = getattr(torch, name)
        yield of, f"{name} instead of {step.name}", each(numbers, lambda x, *a, **k: other(x, *a, **k))
        yield of, "not causal: tokens see later ones", each(numbers, lambda x, *_, **__: torch.ones_like(x))
    if step.name in COMPARISONS:
        for name, other in COMPARISONS.items():
            if name != step.name:
                yield of, f"{name} instead of {step.name}", each(numbers, lambda x, y, *_, f=other: f(x, y))
        for position, now in numbers_in(step):
            for shift in (1, -1):
                words = f"{now + shift:g} instead of {now:g} in a comparison"
                yield of, words, each(numbers, with_argument(step, position, int(now) + shift))
    if y.dtype == torch.bool:
        yield of, "the mask is inverted", each(numbers, lambda *a, **k: [~m for m in step.run(*a, **k)])
        for everything, words in ((True, "all true"), (False, "all false")):
            change = lambda *a, e=everything, **k: [torch.full_like(m, e) for m in step.run(*a, **k)]  # noqa: E731
            yield of, f"a condition is left out: {words}", each(numbers, change)
    if (
        step.name in ("and", "or", "mul", "bitwise_and", "logical_and", "logical_or")
        and y.dtype == torch.bool
    ):
        yield of, "the second of two conditions is left out", each(numbers, lambda x, *_, **__: x)
        yield of, "the first of two conditions is left out", each(numbers, lambda _, y, *__, **___: y)
    if step.name == "masked_fill":
        yield of, "the mask is not applied", each(numbers, lambda x, *_, **__: x)
        yield of, "the mask is inverted", each(numbers, lambda x, m, v, *_: x.masked_fill(~m, v))
        if y.ndim >= 2:
            turned = lambda x, m, v, *_: x.masked_fill(m.transpose(-1, -2), v)  # noqa: E731
            yield of, "the mask is that of queries instead of keys", each(numbers, turned)


def softmax(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """What a softmax makes of a row whose scores are all masked, by one mask or by the sum of two."""
    step = piece[numbers[0]]
    if step.name != "softmax" or step.function is None:
        return
    function: Any = step.function

    def alike(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(x.masked_fill(x < MASKED, torch.finfo(x.dtype).min), *args, **kwargs)

    def nothing(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = function(x, *args, **kwargs)
        return y.masked_fill((x < MASKED).all(kwargs.get("dim", args[0] if args else -1), keepdim=True), 0.0)

    yield "attention", f"{BLIND} sees all alike", each(numbers, alike)
    yield "attention", f"{BLIND} sees nothing, and gets zeros", each(numbers, nothing)


def attention(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """PyTorch's fused attention: its mask, its scale, its softmax."""
    step = piece[numbers[0]]
    if step.name != "scaled_dot_product_attention":
        return
    q, k, *_ = (piece.of(value) for value in piece.inputs(numbers[0]))
    each_size, heads = q.shape[-1], q.shape[1] if q.ndim == 4 else 1
    n, m = q.shape[-2], k.shape[-2]
    scale = piece.arguments(numbers[0])[1].get("scale") or 1 / math.sqrt(each_size)

    def change(**how: Any) -> dict[int, Any]:
        return each(numbers, lambda *args, **kwargs: explicit(*args, **{**kwargs, **how}))

    of = "attention"
    yield of, f"{BLIND} sees all alike", change()
    yield of, f"{BLIND} sees nothing, and gets zeros", change(lowest=-math.inf)
    yield of, "the mask is not applied", change(attn_mask=None, is_causal=False)
    yield of, "the mask is not applied, but it is causal", change(attn_mask=None, is_causal=True)
    yield of, "causal: no token sees later ones", change(is_causal=True)
    yield of, "not causal: tokens see later ones", change(is_causal=False)
    yield of, "the mask is inverted", change(of_mask=lambda mask: ~mask)
    yield of, "the mask is that of queries instead of keys", change(of_mask=lambda m: m.transpose(-1, -2))
    yield of, "the mask is that of queries as well as keys", change(of_mask=lambda m: m & m.transpose(-1, -2))
    for shift in (1, -1):
        words = f"the causal mask is off by {shift}"
        yield of, words, change(causal_from=shift, is_causal=True)
        yield of, f"the mask is off by {shift}", change(of_mask=lambda mask, s=shift: mask.roll(s, -1))
    for width in range(1, min(n, 32)):
        for way in (_window, _causal_window):  # what is masked stays so, or what no query sees alone
            change_of = lambda mask, w=width, f=way: f(mask, w)  # noqa: E731
            yield of, f"a token sees the last {width} alone, itself counted", change(of_mask=change_of)
    for weak in (-1e4, -1e3, -100.0, -10.0, -9.0, -1.0):
        words = f"what is masked gets {weak:g} instead of minus infinity"
        yield of, words, change(masked=weak)
    ways = {
        "1": 1.0, f"1/√{each_size * heads}": (each_size * heads) ** -0.5, f"1/{each_size}": 1 / each_size,
        f"√{each_size}": each_size**0.5, f"1/√{each_size}": each_size**-0.5,
        f"{each_size}^(-1/4)": each_size**-0.25, f"1/√{heads}": heads**-0.5, f"1/√{n}": n**-0.5,
    }  # fmt: skip
    now = next((words for words, value in ways.items() if math.isclose(value, scale)), f"{scale:.6g}")
    for words, value in ways.items():
        if not math.isclose(value, scale):
            yield of, f"the scores are scaled by {words} instead of {now}", change(scale=value)
    for axis, words in ((-2, "the queries"), (1, "the heads"), (0, "the batch")):
        yield of, f"softmax goes over {words}", change(axis=axis)
        yield of, f"softmax goes over {words}", change(axis=axis, lowest=-math.inf)
    yield of, "no softmax", change(axis=None)
    names = "qkv"
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        if n == m:
            words = f"{', '.join(names[i] for i in order)} in the places of q, k, v"
            turned = lambda *a, o=order, **k: step.run(*(a[i] for i in o), *a[3:], **k)  # noqa: E731
            yield of, words, each(numbers, turned)


def _window(mask: Tensor, width: int) -> Tensor:
    return mask & ~torch.ones(mask.shape[-2:], dtype=torch.bool).tril(-width)


def _causal_window(mask: Tensor, width: int) -> Tensor:
    band = torch.ones(mask.shape[-2:], dtype=torch.bool).tril() & _window(torch.ones_like(mask), width)
    return band & mask.any(-2, keepdim=True)


def explicit(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False, *,
    axis: int | None = -1, of_mask: Any = None, causal_from: int = 0, masked: float | None = None,
    lowest: float | None = None,
) -> Tensor:  # fmt: skip
    """PyTorch's fused attention step by step; a query that may see nothing sees all alike.

    With `lowest` minus infinity it sees nothing.
    """
    q, k, v = query, key, value
    if enable_gqa:
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    lowest = torch.finfo(scores.dtype).min if lowest is None else lowest
    if attn_mask is None and of_mask:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool)
    if attn_mask is not None:
        if of_mask:
            attn_mask = of_mask(attn_mask if attn_mask.dtype == torch.bool else attn_mask > MASKED)
        if attn_mask.dtype != torch.bool:
            scores = scores + attn_mask
        elif masked is None:
            scores = scores.masked_fill(~attn_mask, lowest)
        else:
            scores = scores + masked * ~attn_mask
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(causal_from)
        scores = scores.masked_fill(~allowed, lowest)
    return (scores if axis is None else scores.softmax(axis).nan_to_num()) @ v
