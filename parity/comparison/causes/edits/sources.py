"""Mistakes in where a value comes from: another layer's, none, too much of it, or a rounded one."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from parity.comparison.causes.activations import ACTIVATIONS
from parity.comparison.causes.edits.common import Edit, behind, each, family, is_float, result, rounded
from parity.comparison.sides.torch_tape import Piece

NEAR = 12  # values that passed just before and may be added
FAR = 40  # values that may arrive instead


def others(piece: Piece, numbers: Sequence[int], elsewhere: Sequence[tuple[str, Tensor]]) -> Iterator[Edit]:
    """Another layer's value arrives, or is added, or nothing arrives."""
    step = piece[numbers[0]]
    if not is_float(step.found[0]) or step.label == "a constant":
        return
    x = result(step)
    fitting = [(n, y) for n, y in elsewhere if y.numel() == x.numel() and n != step.label]
    instead = f"arrives instead of {piece.called(numbers[0])}"
    for name, y in fitting[:FAR]:
        words = f"the value of {name} {instead}"
        yield "wiring", words, each(numbers, behind(step, functools.partial(_instead, y)))
    for name, y in elsewhere[:FAR]:
        for words, reduced in _reduced(y).items():
            if reduced.numel() == x.numel():
                text = f"{words} of {name} {instead}"
                yield "wiring", text, each(numbers, behind(step, functools.partial(_instead, reduced)))
    if step.function is not None:
        return
    yield "wiring", f"zeros arrive instead of {step.label}", each(numbers, torch.zeros_like)
    for name, y in fitting[:NEAR]:
        yield (
            "wiring",
            f"{name} is added to {step.label}",
            each(numbers, lambda x, y=y: x + y.reshape(x.shape)),
        )
    for name, y in fitting[:NEAR]:
        for words, f in ACTIVATIONS.items():
            if words != "no activation":
                text = f"the value of {name} {instead}, with {words}"
                yield "wiring", text, each(numbers, lambda x, y=y, f=f: f(y).reshape(x.shape))


def _reduced(x: Tensor) -> dict[str, Tensor]:
    """What a network may take of (batch, tokens, features)."""
    if x.ndim != 3:
        return {}
    return {
        "the first token": x[:, 0], "the last token": x[:, -1], "the mean over the tokens": x.mean(1),
        "the maximum over the tokens": x.amax(1),
    }  # fmt: skip


def _instead(other: Tensor, x: Tensor) -> Tensor:
    return other.reshape(x.shape)


def exchanged(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Two values are in each other's place."""
    step = piece[numbers[0]]
    if step.function is not None or not is_float(step.found[0]):
        return
    for other in piece.order:
        two = piece[other]
        if other > numbers[0] and two.function is None and is_float(two.found[0]):
            x, y = step.found[0], two.found[0]
            if x.shape == y.shape:
                words = f"{step.label} and {two.label} are in each other's place"
                yield (
                    family(piece, other), words,
                    {numbers[0]: lambda _, y=y: y, other: lambda _, x=x: x},
                )  # fmt: skip


def narrower(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A value that is held in a narrower float."""
    step = piece[numbers[0]]
    if any(is_float(x) for x in step.found):
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            words = f"{piece.called(numbers[0])} is rounded to {name}"
            yield "precision", words, each(numbers, behind(step, rounded(dtype)))


def scaled(piece: Piece, numbers: Sequence[int], ours: Tensor, kinds: Mapping[str, str]) -> Iterator[Edit]:
    """A value that is multiplied by a number, which is found out."""
    step = piece[numbers[0]]
    if not any(is_float(x) for x in step.found):
        return
    factor = _solved(piece, numbers, ours)
    if factor is None:
        return
    name = piece.called(numbers[0])
    of = "embedding" if kinds.get(name.removesuffix("'s argument")) == "Embedding" else "wiring"
    square = factor * factor
    root = f" (√{square:.0f})" if square > 1.5 and abs(square - round(square)) < 1e-7 else ""
    words = f"{name} is multiplied by {factor:.9g}{root}"
    yield family(piece, numbers[0], of), words, each(numbers, behind(step, lambda x: x * factor))


def _solved(piece: Piece, numbers: Sequence[int], ours: Tensor) -> float | None:
    """The factor by which the result comes closest to a value, by Newton's method on one number."""
    factor = 1.0

    def at(factor: float) -> Tensor:
        edits = {i: behind(piece[i], lambda x: x * factor) for i in numbers}
        return piece.again(edits).reshape(ours.shape)

    for _ in range(12):
        now = at(factor)
        slope = (at(factor * (1 + 1e-6) + 1e-9) - now) / (factor * 1e-6 + 1e-9)
        size = float((slope * slope).sum())
        if not size:
            return None
        change = float(((ours - now) * slope).sum()) / size
        if not abs(change) < 1e6:
            return None
        factor += change
        if abs(change) < 1e-7 * abs(factor):
            # the slope is a difference, so the last digits come from a secant that ends at the solution
            break
    return None if abs(factor - 1) < 1e-9 else _short(factor)


def _short(number: float) -> float:
    """The nearest number of few digits, if it is so near that it must be meant; else the number."""
    for candidate in (round(number, 6), round(number**2, 6) ** 0.5, 1 / (round(1 / number**2, 6) ** 0.5)):
        if candidate and abs(candidate - number) < 1e-8 * abs(number):
            return float(candidate)
    return number
