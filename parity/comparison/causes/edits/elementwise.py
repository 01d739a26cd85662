"""Mistakes in activations, sums, products, and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from parity.comparison.causes.activations import ACTIVATIONS
from parity.comparison.causes.edits.common import (
    NORMS,
    Edit,
    behind,
    each,
    family,
    is_float,
    numbers_in,
    result,
    same,
    with_argument,
)
from parity.comparison.sides.torch_tape import MOVES, Piece

FUNCTIONS = (
    "relu", "gelu", "silu", "sigmoid", "tanh", "leaky_relu", "elu", "relu6", "hardtanh", "hardswish",
    "hardsigmoid", "softplus", "mish", "log_softmax", "exp", "square", "clamp", "clamp_min", "maximum",
    "mul", "where",
)  # fmt: skip
ARITHMETIC = {  # name → what a number among its arguments is
    "add": "as the summand", "sub": "as what is subtracted", "rsub": "as what is subtracted from",
    "mul": "as the factor", "div": "as the divisor", "rdiv": "as the dividend", "rtruediv": "as the dividend",
    "pow": "as the exponent", "rpow": "as the base of the powers", "clamp": "as the bound",
    "clamp_min": "as the bound", "clamp_max": "as the bound",
    "masked_fill": "in the place of what is masked", "where": "in the place of what is masked",
}  # fmt: skip
EPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)
LARGE = (100.0, 1e3, 1e4, 1e5, 5e5, 1e6)


def activations(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Another activation, also one that is written as a formula of several operations."""
    step = piece[numbers[0]]
    if step.name not in FUNCTIONS:
        return
    y = result(step)
    formula = step.name in ("mul", "where")
    for x in _arguments(piece, numbers[0], formula):
        right = _recognised(x, y)
        if right is None and formula:
            continue
        for words, f in ACTIVATIONS.items():
            if words != right:
                change = (lambda *_, f=f, x=x, **__: f(x)) if formula else (lambda x, *_, f=f, **__: f(x))
                chosen = numbers[:1] if formula else numbers
                yield "activation", f"{words} instead of {right or step.name}", each(chosen, change)
        return


def sums(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Two tensors that are put together in another way."""
    step = piece[numbers[0]]
    values = piece.inputs(numbers[0])
    if step.name not in ("add", "sub", "mul", "div") or len(values) != 2:
        return
    a, b = (piece.called(value.step) for value in values)
    if step.name == "add":
        ways = {
            f"{a} is not added": lambda x, y: y, f"{b} is not added": lambda x, y: x,
            f"{a} is subtracted": lambda x, y: y - x, f"{b} is subtracted": lambda x, y: x - y,
            f"{a} is added twice": lambda x, y: 2 * x + y, f"{b} is added twice": lambda x, y: x + 2 * y,
            f"the product of {a} and {b} instead of their sum": lambda x, y: x * y,
        }  # fmt: skip
    elif step.name == "sub":
        ways = {
            f"{b} is not subtracted": lambda x, y: x, f"{b} is added": lambda x, y: x + y,
            f"{a} is subtracted from {b}": lambda x, y: y - x,
        }  # fmt: skip
    else:
        ways = {
            f"{a} without {b} beside it": lambda x, y: x, f"{b} without {a} beside it": lambda x, y: y,
            f"the sum of {a} and {b}": lambda x, y: x + y, f"{a} is multiplied by {b}": lambda x, y: x * y,
            f"{a} is divided by {b}": lambda x, y: x / y,
        }  # fmt: skip
    for words, change in ways.items():
        yield family(piece, numbers[0]), words, each(numbers, lambda x, y, *_, f=change, **__: f(x, y))
    if step.name == "add":
        for words, f in ACTIVATIONS.items():
            if words != "no activation":
                for name, change in (
                    (a, lambda x, y, *_, f=f, **__: f(x) + y), (b, lambda x, y, *_, f=f, **__: x + f(y)),
                ):  # fmt: skip
                    yield "activation", f"{words} before the sum, at {name}", each(numbers, change)


def halved(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A mean of two instead of their sum; a scale that is half as large looks the same."""
    if piece[numbers[0]].name == "add" and len(piece.inputs(numbers[0])) == 2:
        a, b = (piece.called(value.step) for value in piece.inputs(numbers[0]))
        words = f"the mean of {a} and {b} instead of their sum"
        yield "wiring", words, each(numbers, lambda x, y, *_, **__: (x + y) / 2)


def moved(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """An activation that is at the other factor, or at the other side of a sum."""
    step = piece[numbers[0]]
    if step.name not in FUNCTIONS or len(numbers) > 1:
        return
    f, here = step.function, numbers[0]
    inputs = piece.inputs(here)
    before = piece[inputs[0].step]
    if before.name == "add" and len(piece.inputs(inputs[0].step)) == 2:
        names = [piece.called(value.step) for value in piece.inputs(inputs[0].step)]
        passed = {here: lambda x, *_, **__: x}
        for name, change in (
            (names[0], lambda x, y, *_, **__: f(x) + y), (names[1], lambda x, y, *_, **__: x + f(y)),
        ):  # fmt: skip
            words = f"{step.name} comes before the sum, at {name}"
            yield "activation", words, {**passed, inputs[0].step: change}
    for number in piece.behind(here)[:1]:
        if piece[number].name == "add" and len(piece.inputs(number)) == 2:
            words = f"{step.name} comes behind the sum, not before it"
            changes = {here: lambda x, *_, **__: x, number: lambda x, y, *_, **__: f(x + y)}
            yield "activation", words, changes
        if piece[number].name == "mul" and len(piece.inputs(number)) == 2:
            first = piece.inputs(number)[0].step == here
            changes = {
                here: lambda x, *_, **__: x,
                number: (lambda x, y, *_, **__: x * f(y)) if first else (lambda x, y, *_, **__: f(x) * y),
            }
            other = piece.called(piece.inputs(number)[1 if first else 0].step)
            yield "wiring", f"{step.name} is at {other}: the gate and the value are exchanged", changes


def constants(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Another number: an eps, a base, a scale."""
    step = piece[numbers[0]]
    of = family(piece, numbers[0])
    if step.function is None:
        if step.label == "a constant" and is_float(step.found[0]) and step.found[0].numel() == 1:
            now = float(step.found[0])
            for value in likely(now):
                words = f"{value:.6g} instead of the constant {now:.6g}"
                yield of, words, each(numbers, lambda x, v=value: x.new_full(x.shape, v))
        return
    if step.name in ARITHMETIC or step.name in NORMS or step.name in ("normalize", "leaky_relu", "elu"):
        for position, now in numbers_in(step):
            if step.name not in ARITHMETIC and now == int(now):
                continue  # an axis
            for value in likely(now):
                words = f"{value:.6g} instead of {now:.6g} {ARITHMETIC.get(step.name, f'in {step.name}')}"
                yield of, words, each(numbers, with_argument(step, position, value))


def likely(now: float) -> list[float]:
    """What may stand in a number's place."""
    found = [1.0, 0.0, -now, 2 * now, now / 2, now * now, now + 1, now - 1]
    if now > 0:
        found += [math.sqrt(now), 1 / now]
    if 0 < now <= 1e-2:
        found = [*EPS, *found]
    if now >= 100:
        found = [*LARGE, *found]
    if not math.isfinite(now) or now < -1e3:
        found = [-1e4, -1e3, -100.0, -9.0, 0.0]
    return [value for value in dict.fromkeys(found) if value != now and math.isfinite(value)]


def left_out(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """An operation that does not happen."""
    step = piece[numbers[0]]
    if step.function is None or step.name in MOVES or not piece.inputs(numbers[0]):
        return
    x = piece.of(piece.inputs(numbers[0])[0])
    if x.shape == result(step).shape and x.dtype == result(step).dtype:
        change = lambda *args, **kwargs: next(a for a in args if isinstance(a, Tensor))  # noqa: E731
        yield family(piece, numbers[0]), f"{step.name} is left out", each(numbers, change)


def too_much(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """An activation that PyTorch does not have."""
    step = piece[numbers[0]]
    if step.label == "a constant" or not any(is_float(x) for x in step.found):
        return
    name = piece.called(numbers[0])
    for words, f in ACTIVATIONS.items():
        if words != "no activation":
            yield (
                "activation",
                f"an activation too much behind {name}: {words}",
                each(numbers, behind(step, f)),
            )


def _arguments(piece: Piece, number: int, formula: bool) -> list[Tensor]:
    """What an activation may be of: its argument, or any value of its shape that a formula starts from."""
    if not formula:
        return [piece.of(value) for value in piece.inputs(number)[:1]]
    shape = result(piece[number]).shape
    found: list[Any] = []
    left = piece.inputs(number)
    for _ in range(12):
        if not left:
            break
        value = left.pop(0)
        x = piece.of(value)
        if is_float(x) and x.shape == shape:
            found.append(x)
        left += piece.inputs(value.step)
    return found


def _recognised(x: Tensor, y: Tensor) -> str | None:
    """The activation by which a value came from x, if one did."""
    for words, f in ACTIVATIONS.items():
        if same(f(x), y):
            return words
    return None
