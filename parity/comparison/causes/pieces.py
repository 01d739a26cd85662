"""Known mistakes in what PyTorch did between layers: its operations are done again with one mistake each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from parity.comparison.causes.edits import axes, elementwise, masks, pools, recurrent, rotary, sources
from parity.comparison.causes.edits.common import Edit
from parity.comparison.causes.evidence import Alternative, Evidence, as_far_as_it_goes
from parity.comparison.sides.torch_tape import Piece

WORK = 2e9  # numbers that are computed for one place
LEAST = 100  # mistakes that are tried all the same

# likely mistakes first: the first that gives Flax's numbers is the cause
LIKELY: tuple[Callable[..., Iterator[Edit]], ...] = (
    masks.attention, masks.softmax, recurrent.cells, elementwise.activations, elementwise.moved,
    elementwise.sums,
    masks.masks, elementwise.constants, pools.pools, pools.resizing, axes.reductions, axes.parts, axes.shapes,
    axes.positions, elementwise.left_out,
)  # fmt: skip


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What could arrive instead, where PyTorch's operations are known."""
    piece = given.piece
    if piece is None:
        return
    tries = max(LEAST, int(WORK / max(1, sum(piece.first(i).numel() for i in piece.order))))
    for family, words, changes in _edits(given, piece):
        yield family, words, functools.partial(_again, given, piece, changes)
        tries -= 1
        if not tries:
            return


def _again(given: Evidence, piece: Piece, changes: dict[int, Any]) -> Any:
    return piece.again(changes).reshape(given.theirs.shape)


def _edits(given: Evidence, piece: Piece) -> Iterator[Edit]:
    lines = list(piece.lines())
    yield from as_far_as_it_goes(rotary.pairs(piece))
    yield from as_far_as_it_goes(rotary.bases(piece))
    for kind in LIKELY:
        for numbers in lines:
            yield from as_far_as_it_goes(kind(piece, numbers))
    elsewhere = [(name, torch.tensor(array)) for name, array in given.elsewhere]
    ours = torch.tensor(given.ours)
    for kind in (
        functools.partial(sources.others, elsewhere=elsewhere), sources.exchanged, elementwise.halved,
        elementwise.too_much,
        axes.orders, functools.partial(sources.scaled, ours=ours, kinds=given.kinds), sources.narrower,
    ):  # fmt: skip
        for numbers in lines:
            yield from as_far_as_it_goes(kind(piece, numbers))
