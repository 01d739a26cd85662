"""What all kinds of mistakes in operations share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from parity.cause import is_close
from parity.comparison.sides.torch_tape import Piece, Step

Change = Callable[..., Any]  # what a step does instead: a function of its arguments, or of its value
Edit = tuple[str, str, dict[int, Change]]  # family, words, what is changed

NORMS = ("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm", "rsqrt")
ATTENTION = ("softmax", "scaled_dot_product_attention")
TURNS = ("cos", "sin", "polar", "view_as_complex")  # of rotary positions


def each(numbers: Sequence[int], change: Change) -> dict[int, Change]:
    """The same change of several steps."""
    return dict.fromkeys(numbers, change)


def family(piece: Piece, number: int, otherwise: str = "wiring") -> str:
    """The family of a mistake in a step, by what its result is for."""
    behind = {piece[i].name for i in (number, *piece.behind(number))}
    if behind.intersection(TURNS) or _is_turned(piece, number):
        return "rotary"
    if behind.intersection(ATTENTION):
        return "attention"
    if behind.intersection(NORMS):
        return "normalisation"
    return otherwise


def _is_turned(piece: Piece, number: int) -> bool:
    """Whether a sum is that of a value times cosines and one times sines."""
    return piece[number].name in ("add", "sub") and all(
        any(piece[v.step].name in TURNS for v in piece.inputs(value.step)) for value in piece.inputs(number)
    )


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among values."""
    return [x for x in values if isinstance(x, Tensor)]


def result(step: Step) -> Tensor:
    """The first tensor that a step gave."""
    return tensors(step.found)[0]


def is_float(x: Any) -> bool:
    """Whether it is a tensor of floats."""
    return isinstance(x, Tensor) and x.dtype.is_floating_point


def same(a: Tensor, b: Tensor) -> bool:
    """Whether both are the same but for rounding."""
    return a.shape == b.shape and is_close(a.detach().double().numpy(), b.detach().double().numpy())


def behind(step: Step, change: Callable[[Tensor], Tensor]) -> Change:
    """A step whose tensors of floats go through a function; of what is from outside, its value does."""
    if step.function is None:
        return change

    def run(*args: Any, **kwargs: Any) -> list[Any]:
        return [change(x) if is_float(x) else x for x in step.run(*args, **kwargs)]

    return run


def with_argument(step: Step, position: int, value: Any) -> Change:
    """A step with another value in one place among the leaves of its arguments."""

    def run(*args: Any, **kwargs: Any) -> list[Any]:
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        now = leaves[position]
        leaves[position] = value(now) if callable(value) else value
        args, kwargs = _pytree.tree_unflatten(leaves, spec)
        return step.run(*args, **kwargs)

    return run


def numbers_in(step: Step) -> Iterator[tuple[int, float]]:
    """Positions and values of the plain numbers among a step's arguments."""
    for position, value in enumerate(step.given):
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield position, float(value)


def divisors(number: int) -> list[int]:
    """From 2 to less than the number."""
    return [n for n in range(2, number) if number % n == 0]


def interleaved(x: Tensor, axis: int, first: int) -> Tensor:
    """An axis read as (first, rest) and written as (rest, first)."""
    return x.unflatten(axis, (first, -1)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def rounded(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A conversion to a narrower float and back."""
    return lambda x: x.to(dtype).to(x.dtype)
