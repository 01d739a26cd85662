"""Rotary positions whose pairs are other features, halves or neighbours, or whose base is another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from parity.comparison.causes.edits.common import Edit, same
from parity.comparison.sides.torch_tape import Piece

BASES = (1e4, 5e5, 1e6, 1e5, 1e7, 1e3, 100.0, 2e4, 1.6e5, 5e4)  # of published models, 10,000 first


def pairs(piece: Piece) -> Iterator[Edit]:
    """Neighbours instead of halves, or halves instead of neighbours."""
    for words, now, other, doubled in (
        ("neighbours (0, 1), (2, 3), … instead of halves", halves, neighbours, _neighbours_of_angles),
        ("halves instead of neighbours (0, 1), (2, 3), …", neighbours, halves, _halves_of_angles),
    ):
        changes: dict[int, Any] = {}
        for number in piece.order:
            step = piece[number]
            if step.function is None or not step.name:
                continue
            x = _turned(piece, number, now)
            if x is not None:
                changes[number] = lambda *_, x=x, f=other, **__: f(x)
            elif _is_doubled(piece, number, doubled is _neighbours_of_angles):
                y = piece.first(number)
                changes[number] = lambda *_, y=y, f=doubled, **__: f(y)
        if changes:
            yield "rotary", f"the pairs that turn are {words}", changes


def bases(piece: Piece) -> Iterator[Edit]:
    """Another base in frequencies base^(−i/n), i = 0 … n − 1, that PyTorch has as a tensor."""
    for number in piece.order:
        x = piece.first(number)
        if piece[number].function is not None or x.ndim != 1 or len(x) < 2 or not x.is_floating_point():
            continue
        steps = torch.arange(len(x), dtype=x.dtype) / len(x)
        now = float(x[1] ** -len(x))
        if not (now > 1 and torch.allclose(x, now**-steps, rtol=1e-5, atol=0)):
            continue
        for base in BASES:
            if abs(base / now - 1) > 1e-3:
                words = f"the base of the rotary frequencies is {base:,g} instead of {now:,.6g}"
                yield "rotary", words, {number: lambda _, y=base**-steps: y}


def halves(x: Tensor) -> Tensor:
    """(a, b) → (−b, a), where a and b are the halves of the features."""
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def neighbours(x: Tensor) -> Tensor:
    """The same where a are the even features and b the odd ones."""
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((-b, a), -1).flatten(-2)


def _turned(piece: Piece, number: int, way: Any) -> Tensor | None:
    """The value that a step's result is turned from."""
    y = piece.first(number)
    left = piece.inputs(number)
    for _ in range(8):
        if not left or not y.ndim or y.shape[-1] % 2:
            return None
        value = left.pop(0)
        x = piece.of(value)
        if x.shape == y.shape and x.is_floating_point() and x.dtype == y.dtype and same(way(x), y):
            return x
        left += piece.inputs(value.step)
    return None


def _is_doubled(piece: Piece, number: int, by_halves: bool) -> bool:
    """Whether a step writes its angles twice."""
    inputs = piece.inputs(number)
    y = piece.first(number)
    if len(set(inputs)) != 1 or not y.ndim or y.shape[-1] % 2 or y.shape[-1] == 1:
        return False
    x = piece.of(inputs[0])
    if x.ndim != y.ndim or 2 * x.numel() != y.numel():
        return False
    a, b = y.chunk(2, -1) if by_halves else (y[..., ::2], y[..., 1::2])
    return same(a, b) and a.shape == x.shape and same(a, x)


def _neighbours_of_angles(y: Tensor) -> Tensor:
    return y.chunk(2, -1)[0].repeat_interleave(2, -1)


def _halves_of_angles(y: Tensor) -> Tensor:
    return torch.cat((y[..., ::2], y[..., ::2]), -1)
