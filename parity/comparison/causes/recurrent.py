"""Known mistakes of recurrent cells: the order of gates, and where biases are added."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from parity.comparison.causes.evidence import Alternative, Evidence

FAMILY = "recurrent cell"
GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What a cell or a layer of cells would give with one mistake each."""
    module: Any = given.module
    gates = next((g for name, g in GATES.items() if name in type(module).__name__), ())
    for order in itertools.permutations(range(len(gates))):
        if list(order) == sorted(order):
            continue
        words = f"the gates are taken as {', '.join(gates[i] for i in order)} instead of {', '.join(gates)}"
        yield FAMILY, words, given.changed(lambda m, o=order: _reorder(m, o))
    yield FAMILY, "the bias of the hidden state is not added", given.changed(lambda m: _zero(m, "bias_hh"))
    yield FAMILY, "the bias of the input is not added", given.changed(lambda m: _zero(m, "bias_ih"))
    if isinstance(module, nn.GRUCell):
        words = "the new gate's hidden bias is added outside of the reset gate"
        yield FAMILY, words, lambda: _gru(given, module, outside=True)
        words = "the reset gate is applied before the hidden weights, not behind them"
        yield FAMILY, words, lambda: _gru(given, module, before=True)
        yield FAMILY, "1 − z in place of z", lambda: _gru(given, module, turned=True)
    if isinstance(module, nn.LSTMCell):
        part = module.hidden_size
        words = "1 is added to the forget gate's bias"
        yield FAMILY, words, given.changed(lambda m: m.bias_ih[part : 2 * part].add_(1.0))


def _gru(
    given: Evidence, cell: Any, outside: bool = False, before: bool = False, turned: bool = False
) -> Tensor:
    x, h = given.x, next(a for a in [*given.args[1:], *given.kwargs.values()] if isinstance(a, Tensor))
    of_x = torch.nn.functional.linear(x, cell.weight_ih, cell.bias_ih).chunk(3, -1)
    of_h = torch.nn.functional.linear(h, cell.weight_hh, cell.bias_hh).chunk(3, -1)
    r, z = torch.sigmoid(of_x[0] + of_h[0]), torch.sigmoid(of_x[1] + of_h[1])
    weight, bias = cell.weight_hh.chunk(3)[2], cell.bias_hh.chunk(3)[2]
    if outside:
        new = torch.tanh(of_x[2] + r * (h @ weight.T) + bias)
    elif before:
        new = torch.tanh(of_x[2] + (r * h) @ weight.T + bias)
    else:
        new = torch.tanh(of_x[2] + r * of_h[2])
    return z * new + (1 - z) * h if turned else (1 - z) * new + z * h


def _reorder(module: Any, order: tuple[int, ...]) -> None:
    for tensor in module.parameters():
        parts = tensor.chunk(len(order))
        tensor.copy_(torch.cat([parts[i] for i in order]).clone())


def _zero(module: Any, prefix: str) -> None:
    for name, tensor in module.named_parameters():
        if name.startswith(prefix):
            tensor.zero_()
