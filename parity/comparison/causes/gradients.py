"""Why a gradient differs though the values don't: where it stops, or goes on, in one framework alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from parity.cause import MATCHES, UNKNOWN, Cause, common_ratio, is_close
from parity.comparison.causes.edits.common import with_argument
from parity.comparison.recording import Slot
from parity.comparison.sides.torch_tape import Tape, Value

FAMILY = "gradient"
NOTHING: Mapping[int, Any] = {}  # no gradient comes back through the piece
Edits = Mapping[int, Mapping[int, Any]]  # number of the piece → step → what it does instead


def cause(
    tape: Tape | None, start: Hashable, cotangents: Mapping[Hashable, np.ndarray],
    theirs: np.ndarray, ours: np.ndarray, way: Callable[[np.ndarray], np.ndarray],
) -> Cause:  # fmt: skip
    """The cause of a gradient that differs.

    Args:
      tape: PyTorch's operations.
      start: the place or parameter whose gradient it is.
      cotangents: gradients that arrive at the places behind.
      theirs: PyTorch's gradient, in Flax's layout.
      ours: Flax's.
      way: a gradient of PyTorch → in Flax's layout.
    """
    if not np.any(ours):
        return Cause(FAMILY, "Flax gives it no gradient (stop_gradient, or it is not used)")
    if not np.any(theirs):
        return Cause(FAMILY, "PyTorch gives it no gradient (detach, or it is not used)")
    match = MATCHES["f64"]
    ratio = common_ratio(ours, theirs, match)
    if ratio:
        return Cause(FAMILY, f"it is {ratio:.9g} times PyTorch's")
    if tape is not None and start in tape.starts:
        flow = _Flow(tape, tape.starts[start], cotangents)
        if is_close(theirs, way(flow.back({})), match):
            for words, edits in flow.stops():
                if is_close(ours, way(flow.back(edits)), match):
                    return Cause(FAMILY, words)
    return Cause(FAMILY, UNKNOWN.words)


class _Flow:
    """How gradients come back to one value: through every piece that it starts.

    Args:
      tape: PyTorch's operations.
      start: the value's step.
      cotangents: what arrives at the pieces' ends.
    """

    def __init__(self, tape: Tape, start: int, cotangents: Mapping[Hashable, np.ndarray]):
        pieces = {key: tape.piece(key) for key in cotangents}
        self._pieces = [
            (piece, torch.tensor(cotangents[key]), key)
            for key, piece in pieces.items()
            if piece is not None and start in piece.order
        ]
        self._start = start
        self._shape = tuple(tape.steps[start].found[0].shape)

    def back(self, edits: Edits) -> np.ndarray:
        """The gradient where steps of some pieces do something else."""
        total = np.zeros(self._shape)
        for number, (piece, cotangent, _) in enumerate(self._pieces):
            if edits.get(number) is NOTHING:
                continue
            with torch.enable_grad():
                leaf = piece.first(self._start).detach().clone().requires_grad_()
                given = {self._start: lambda _, x=leaf: x, **edits.get(number, {})}
                end = piece.again(given)
                if end.requires_grad:
                    (found,) = torch.autograd.grad(end, leaf, cotangent.reshape(end.shape), allow_unused=True)
                    if found is not None:
                        total = total + found.numpy()
        return total

    def stops(self) -> Iterator[tuple[str, Edits]]:
        """Places where a gradient may stop, or go on, in words."""
        for number, (piece, _, key) in enumerate(self._pieces):
            end = key.words if isinstance(key, Slot) else f"output {key}"
            yield f"no gradient goes back from {end} into {piece.called(self._start)}", {number: NOTHING}
        for number, (piece, _, _) in enumerate(self._pieces):
            reached = {self._start, *piece.behind(self._start)}
            for i in piece.order:
                step = piece[i]
                if step.name == "detach":
                    yield "the gradient goes on where PyTorch detaches", {number: {i: lambda x, *_: x}}
                if i not in reached or step.function is None:
                    continue
                for position, value in enumerate(step.given):
                    if isinstance(value, Value) and value.step in reached:
                        words = f"no gradient goes back from {step.name} into {piece.called(value.step)}"
                        yield words, {number: {i: with_argument(step, position, Tensor.detach)}}
