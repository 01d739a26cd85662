"""Mistakes in recurrent layers and cells: the order of gates, where biases are added, what the gates are."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree

from parity.comparison.causes.edits.common import Change, Edit, each
from parity.comparison.sides.torch_tape import Piece, Step, Value

FAMILY = "recurrent cell"
GATES = {"lstm": "ifgo", "gru": "rzn"}
Weights = tuple[Tensor, Tensor, Tensor, Tensor]  # of the input, of the state, and their biases


def cells(piece: Piece, numbers: Sequence[int]) -> Iterator[Edit]:
    """A layer or a cell with one mistake."""
    step = piece[numbers[0]]
    kind = step.name.removesuffix("_cell")
    if kind not in GATES:
        return
    gates = GATES[kind]
    owned = [
        position for position, value in enumerate(step.given)
        if isinstance(value, Value) and piece[value.step].owned
    ]  # fmt: skip
    for order in itertools.permutations(range(len(gates))):
        if list(order) != sorted(order):
            taken = ", ".join(gates[i] for i in order)
            words = f"the gates are taken as {taken} instead of {', '.join(gates)}"
            yield FAMILY, words, each(numbers, _with(step, owned, functools.partial(_reordered, order)))
    biases = [position for position in owned if piece.of(step.given[position]).ndim == 1]
    for name, chosen in (("input", biases[::2]), ("state", biases[1::2])):
        words = f"the bias of the {name} is not added"
        yield FAMILY, words, each(numbers, _with(step, chosen, torch.zeros_like))
    for words, part in (_lstm_parts() if kind == "lstm" else _gru_parts()).items():
        yield FAMILY, words, each(numbers, _explicit(step, part))


def _with(step: Step, positions: Sequence[int], change: Callable[[Tensor], Tensor]) -> Change:
    """A step with changed weights."""

    def run(*args: Any, **kwargs: Any) -> list[Any]:
        leaves, spec = _pytree.tree_flatten((args, kwargs))
        for position in positions:
            leaves[position] = change(leaves[position])
        args, kwargs = _pytree.tree_unflatten(leaves, spec)
        return step.run(*args, **kwargs)

    return run


def _reordered(order: Sequence[int], x: Tensor) -> Tensor:
    parts = x.chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _lstm_parts() -> dict[str, Any]:
    """Words → one step of an LSTM with a mistake: (x, (h, c), weights) → (h, c)."""

    def with_gates(**how: Any) -> Any:
        return lambda x, state, weights: lstm(x, *state, *weights, **how)

    found = {
        "1 is added to the forget gate's bias": with_gates(forget=1.0),
        "1 is subtracted from the forget gate's bias": with_gates(forget=-1.0),
        "no tanh of the memory where it is given out": with_gates(end=lambda x: x),
        "no tanh of the candidate g": with_gates(candidate=lambda x: x),
    }
    for name in "ifo":
        found[f"the sigmoid of gate {name} is hard"] = with_gates(hard=name)
    return found | {"all sigmoids are hard": with_gates(hard="ifo")}


def _gru_parts() -> dict[str, Any]:
    """Words → one step of a GRU with a mistake: (x, (h,), weights) → (h,)."""

    def with_gates(**how: Any) -> Any:
        return lambda x, state, weights: (gru(x, *state, *weights, **how),)

    found = {
        "the new gate's hidden bias is added outside of the reset gate": with_gates(outside=True),
        "the reset gate is applied before the hidden weights, not behind them": with_gates(before=True),
        "1 − z in place of z": with_gates(turned=True),
        "no tanh of the new state": with_gates(candidate=lambda x: x),
        "the new gate's input bias is not added": with_gates(without=(True, False)),
        "the new gate's hidden bias is not added": with_gates(without=(False, True)),
    }
    for name in "rz":
        found[f"the sigmoid of gate {name} is hard"] = with_gates(hard=name)
    return found | {"all sigmoids are hard": with_gates(hard="rz")}


def lstm(
    x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor, *,
    forget: float = 0.0, end: Any = torch.tanh, candidate: Any = torch.tanh, hard: str = "",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One step."""
    i, f, g, o = (F.linear(x, w_x, b_x) + F.linear(h, w_h, b_h)).chunk(4, -1)
    i, f, o = (_gate(name in hard)(t) for name, t in (("i", i), ("f", f + forget), ("o", o)))
    c = f * c + i * candidate(g)
    return o * end(c), c


def gru(
    x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor, *, outside: bool = False,
    before: bool = False, turned: bool = False, candidate: Any = torch.tanh, hard: str = "",
    without: tuple[bool, bool] = (False, False),
) -> Tensor:  # fmt: skip
    """One step."""
    of_x, of_h = F.linear(x, w_x, b_x).chunk(3, -1), F.linear(h, w_h, b_h).chunk(3, -1)
    r, z = (_gate(name in hard)(of_x[i] + of_h[i]) for i, name in enumerate("rz"))
    weight, bias = w_h.chunk(3)[2], b_h.chunk(3)[2]
    from_x = of_x[2] - b_x.chunk(3)[2] if without[0] else of_x[2]
    if outside:
        new = from_x + r * (h @ weight.T) + bias
    elif before:
        new = from_x + (r * h) @ weight.T + bias
    else:
        new = from_x + r * (h @ weight.T + (0.0 if without[1] else bias))
    new = candidate(new)
    return z * new + (1 - z) * h if turned else (1 - z) * new + z * h


def _gate(hard: bool) -> Callable[[Tensor], Tensor]:
    return F.hardsigmoid if hard else torch.sigmoid


def _explicit(step: Step, part: Any) -> Change:
    """A cell, or one layer of cells in one direction, by the steps of `part`."""

    def cell(x: Tensor, state: Any, *weights: Tensor) -> Any:
        found = part(x, state if isinstance(state, tuple | list) else (state,), weights)
        return list(found)

    def layer(x: Tensor, state: Any, weights: Any, has_bias: bool, layers: int, *rest: Any) -> Any:
        _, _, both_ways, batch_first = rest
        if layers != 1 or both_ways or not has_bias:
            raise ValueError("not one layer in one direction")
        single = isinstance(state, Tensor)
        states = tuple(s[0] for s in ((state,) if single else state))
        outputs = []
        for at in x.unbind(1 if batch_first else 0):
            states = part(at, states, tuple(weights))
            outputs.append(states[0])
        return [torch.stack(outputs, 1 if batch_first else 0), *(s[None] for s in states)]

    return cell if step.name.endswith("_cell") else layer
