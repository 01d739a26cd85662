"""Mistakes in what moves numbers: axes, parts, orders, positions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from parity.comparison.causes.edits.common import (
    ATTENTION,
    Edit,
    behind,
    divisors,
    each,
    family,
    interleaved,
    is_float,
    result,
    same,
    tensors,
    with_argument,
)
from parity.comparison.sides.torch_tape import Piece

SHAPED = ("view", "reshape", "flatten", "unflatten")
REDUCTIONS = ("mean", "sum", "amax", "max", "adaptive_avg_pool2d")


def shapes(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Axes that are joined or split in another order, or not moved."""
    step = piece[numbers[0]]
    if step.name in ("permute", "transpose", "swapaxes", "movedim", "get") and piece.inputs(numbers[0]):
        shape = result(step).shape
        words = f"the axes are not swapped behind {piece.called(numbers[0])}, only reshaped"
        yield _family(piece, numbers[0]), words, each(numbers, lambda x, *_, **__: x.reshape(shape))
    if step.name not in SHAPED:
        return
    x, y = piece.of(piece.inputs(numbers[0])[0]), result(step)
    name = piece.called(numbers[0])
    if y.ndim < x.ndim <= 5:
        flat = "flatten order" if y.ndim == 2 and x.ndim > 2 else None
        for axes in itertools.permutations(range(1, x.ndim)):
            if list(axes) != sorted(axes):
                words = f"{name} is joined in the order of the axes {(0, *axes)}"
                yield (
                    flat or _family(piece, numbers[0]), words,
                    each(numbers, lambda x, *_, a=axes, **__: x.permute(0, *a).reshape(y.shape)),
                )  # fmt: skip
                sizes = [x.shape[i] for i in (0, *axes)]
                words = f"{name} has the sizes {tuple(x.shape)} and is read as if they were {tuple(sizes)}"
                back = [0, *(axes.index(i) + 1 for i in range(1, x.ndim))]
                read = lambda x, *_, s=sizes, b=back, **__: x.reshape(s).permute(b).reshape(y.shape)  # noqa: E731
                yield flat or _family(piece, numbers[0]), words, each(numbers, read)
    if y.ndim > x.ndim:
        for i, j in itertools.combinations(range(y.ndim), 2):
            swapped = list(y.shape)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            words = f"{name} is split as {tuple(swapped)}, not as {tuple(y.shape)}"
            yield (
                _family(piece, numbers[0]), words,
                each(numbers, lambda x, *_, s=swapped, i=i, j=j, **__: x.reshape(s).transpose(i, j)),
            )  # fmt: skip


def parts(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Parts of a tensor that are taken, or put together, in another order."""
    step = piece[numbers[0]]
    found = tensors(step.found)
    of = _family(piece, numbers[0])
    if 2 <= len(found) <= 4 and len({x.shape for x in found}) == 1:
        name = piece.called(piece.inputs(numbers[0])[0].step)
        for order in itertools.permutations(range(len(found))):
            if list(order) != sorted(order):
                words = f"the parts of {name} are taken in the order {', '.join(str(i + 1) for i in order)}"
                yield of, words, each(numbers, lambda *a, o=order, **k: [step.run(*a, **k)[i] for i in o])
        axis = next((i for i, n in enumerate(found[0].shape) if _of_input(piece, numbers[0], i) != n), None)
        if axis is not None and _of_input(piece, numbers[0], axis) == len(found) * found[0].shape[axis]:
            words = f"the parts of {name} are every other number, not one after the other"
            parted = lambda x, *_, **__: list(x.unflatten(axis, (-1, len(found))).unbind(axis + 1))  # noqa: E731
            yield of, words, each(numbers, parted)
    if step.name in ("cat", "stack", "concat"):
        words = "what is joined is joined in reverse order"
        reverse = lambda given, *a, **k: step.run(list(given)[::-1], *a, **k)  # noqa: E731
        yield of, words, each(numbers, reverse)


def reductions(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A softmax over another axis; a maximum instead of a mean."""
    step = piece[numbers[0]]
    inputs = piece.inputs(numbers[0])
    if not inputs:
        return
    x, y = piece.of(inputs[0]), result(step)
    if step.name in ("softmax", "log_softmax"):
        f = torch.softmax if step.name == "softmax" else torch.log_softmax
        right = next((axis for axis in range(x.ndim) if same(f(x, axis), y)), None)
        for axis in range(x.ndim):
            if axis != right:
                words = f"{step.name} over the axis {axis} instead of {right}"
                yield "attention", words, each(numbers, lambda x, *_, a=axis, **__: f(x, a).nan_to_num())
    if step.name in REDUCTIONS and is_float(x):
        sets = [axes for n in (1, 2, 3) for axes in itertools.combinations(range(x.ndim), n)]
        ways: dict[str, Any] = {"mean": torch.mean, "sum": torch.sum, "maximum": torch.amax}
        for axes in sets:
            for words, way in ways.items():
                if way(x, axes).numel() == y.numel():
                    text = f"the {words} over the axes {axes} instead of {step.name}"
                    change = lambda x, *_, w=way, a=axes, **__: w(x, a).reshape(y.shape)  # noqa: E731
                    yield "pooling" if x.ndim == 4 else family(piece, numbers[0]), text, each(numbers, change)


def positions(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """Positions, tokens and steps that are counted from elsewhere."""
    step, number = piece[numbers[0]], numbers[0]
    if step.name == "arange":
        of = family(piece, number, "embedding")
        for words, change in {
            "positions are counted from 1": lambda x: x + 1, "positions are counted from -1": lambda x: x - 1,
            "positions are counted from the end": lambda x: x.flip(0),
        }.items():  # fmt: skip
            run = lambda *a, f=change, **k: [f(x) for x in step.run(*a, **k)]  # noqa: E731
            yield of, words, each(numbers, run)
    if step.name not in ("getitem", "embedding", "gather", "index_select", "narrow", "select"):
        return
    of = "embedding" if step.name == "embedding" or piece[piece.inputs(number)[0].step].owned else "wiring"
    of = family(piece, number, of)
    if step.name == "embedding":
        for shift in (1, -1):
            words = f"tokens are counted from {shift}"
            run = lambda x, w, *a, s=shift, **k: step.run((x + s) % len(w), w, *a, **k)  # noqa: E731
            yield of, words, each(numbers, run)
        return
    inputs = 0
    for position, one in enumerate(step.given):
        inputs += isinstance(one, tuple) and hasattr(one, "step")
        for words, value in _others(one, piece, inputs):
            name = piece.called(piece.inputs(number)[0].step)
            yield of, f"{words}, of {name}", each(numbers, with_argument(step, position, value))


def orders(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A value whose numbers are in another order along an axis."""
    step = piece[numbers[0]]
    if step.label == "a constant" or not any(is_float(x) for x in step.found):
        return
    x, name = result(step), piece.called(numbers[0])
    for axis in range(0 if step.owned else 1, x.ndim):
        ways: dict[str, Any] = {
            f"the axis {axis} of {name} is in reverse order": lambda x, a=axis: x.flip(a),
            f"{name} is shifted by one along the axis {axis}": lambda x, a=axis: x.roll(1, a),
            f"{name} is shifted by minus one along the axis {axis}": lambda x, a=axis: x.roll(-1, a),
        }
        for first in divisors(x.shape[axis]):
            words = f"the axis {axis} of {name} is shuffled: ({first}, {x.shape[axis] // first}) is read as"
            words = f"{words} ({x.shape[axis] // first}, {first})"
            ways[words] = lambda x, a=axis, n=first: interleaved(x, a, n)
            for second in divisors(x.shape[axis] // first) if step.owned else ():
                rest = x.shape[axis] // first // second
                words = f"the axis {axis} of {name} is read as ({first}, {second}, {rest})"
                words = f"{words} instead of ({second}, {first}, {rest})"
                ways[words] = lambda x, a=axis, sizes=(first, second, rest): (
                    x.unflatten(a, sizes).transpose(a, a + 1).flatten(a, a + 2)
                )
        for words, change in ways.items():
            yield _family(piece, numbers[0]), words, each(numbers, behind(step, change))
    for i, j in itertools.combinations(range(1, x.ndim), 2):
        words = f"the axes {i} and {j} of {name} are swapped"
        swap = lambda x, i=i, j=j: x.transpose(i, j).reshape(x.shape)  # noqa: E731
        yield family(piece, numbers[0]), words, each(numbers, behind(step, swap))


def _others(one: Any, piece: Piece, inputs: int) -> Iterator[tuple[str, Any]]:
    """Other values of an index: words and the value, or a function of the present one."""
    if isinstance(one, slice) and one.step in (None, 1):
        start, stop = one.start or 0, one.stop
        for shift in (1, -1, 2):
            if start + shift >= 0:
                end = None if stop is None else stop + shift
                yield f"from {start + shift} on instead of {start}", slice(start + shift, end)
    elif isinstance(one, int) and not isinstance(one, bool):
        for value in (0, -1, one + 1, one - 1):
            if value != one:
                yield f"index {value} instead of {one}", value
    elif inputs > 1 and isinstance(one, tuple) and not is_float(piece.of(one)):  # type: ignore[arg-type]
        yield "the index is larger by one", lambda x: x + 1
        yield "the index is smaller by one", lambda x: x - 1
        yield "the last one is taken", lambda x: torch.full_like(x, -1)
        yield "the first one is taken", torch.zeros_like


def _of_input(piece: Piece, number: int, axis: int) -> int:
    x = piece.of(piece.inputs(number)[0])
    return int(x.shape[axis]) if isinstance(x, Tensor) and axis < x.ndim else -1


def _family(piece: Piece, number: int) -> str:
    """As `family`; a piece that is an attention has the shapes of one behind the softmax too."""
    otherwise = "linear layer" if piece[number].owned else "wiring"
    of = family(piece, number, otherwise)
    inside = any(piece[i].name in ATTENTION for i in piece.order)
    return "attention" if of == otherwise and inside else of
