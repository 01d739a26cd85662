"""How an activation of PyTorch's shape becomes one of Flax's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """A way from PyTorch's array to Flax's."""

    axes: tuple[int, ...]  # of PyTorch's array in the order of Flax's
    shape: tuple[int, ...]  # of Flax's array
    features: tuple[int, ...] = ()  # the order of the last axis, where it is another (a flatten)
    rows: str = ""  # which side has one row for all of the batch: "flax" | "torch"

    @property
    def pins(self) -> bool:
        """Whether PyTorch's value and gradient say what Flax's have to be."""
        return self.rows != "torch"

    def value(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's value as Flax has it."""
        if self.rows == "flax":
            array = array[:1]
        return self._moved(array)

    def grad(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's gradient as Flax has it."""
        if self.rows == "flax":
            array = array.sum(0, keepdims=True)
        return self._moved(array)

    def back(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Flax's value as PyTorch has it, of a shape."""
        if self.rows:
            return np.broadcast_to(array[:1], array.shape) if self.rows == "torch" else array
        array = array.reshape([shape[i] for i in self.axes]).transpose(np.argsort(self.axes))
        if self.features:
            inverse = np.argsort(self.features)
            array = array[..., inverse]
        return np.ascontiguousarray(array)

    def _moved(self, array: np.ndarray) -> np.ndarray:
        if self.features:
            array = array[..., list(self.features)]
        array = array.transpose(self.axes)
        if self.rows == "torch":
            one_row = np.ascontiguousarray(array).reshape((1, *self.shape[1:]))
            return np.broadcast_to(one_row, self.shape).copy()
        return np.ascontiguousarray(array).reshape(self.shape)


def layouts(shape_t: Sequence[int], shape_f: Sequence[int]) -> list[Layout]:
    """All ways from one shape to the other, likely ones first: channels last, then unchanged, then others."""
    st, sf = tuple(shape_t), tuple(shape_f)
    if math.prod(st) != math.prod(sf):
        return _with_one_row(st, sf)
    n = len(st)
    last = (0, *range(2, n), 1) if n > 2 else tuple(range(n))
    same = tuple(range(n))
    likely = [last, same] if n >= 4 else [same, last]
    every = itertools.permutations(range(n)) if n <= 4 else ()
    found: dict[tuple[int, ...], None] = {}
    for axes in [*likely, *every]:
        if tuple(st[i] for i in axes) == sf:
            found[axes] = None
    for (
        axes
    ) in likely:  # axes of Flax that are split or joined: (b, n, heads × each) beside (b, n, heads, each)
        if axes not in found and st and sf and st[axes[0]] == sf[0]:
            found[axes] = None
    if not found and sorted(d for d in st if d != 1) == sorted(d for d in sf if d != 1):
        found[same] = None
    return [Layout(axes, sf) for axes in found]


def _with_one_row(st: tuple[int, ...], sf: tuple[int, ...]) -> list[Layout]:
    """One side has one row for the whole batch, as a position embedding may have."""
    if not st or not sf or len(st) != len(sf) or 1 not in (st[0], sf[0]) or st[0] == sf[0]:
        return []
    rows = "flax" if sf[0] == 1 else "torch"
    inner = layouts((1, *st[1:]), (1, *sf[1:]))
    return [layout._replace(shape=sf, rows=rows) for layout in inner if layout.axes[:1] == (0,)]


def best(ways: Sequence[Layout], theirs: np.ndarray, ours: np.ndarray) -> Layout:
    """The way by which the values agree, or the likeliest if they agree by none."""
    first = ways[0]
    if len(ways) == 1:
        return first
    errors = [float(np.abs(way.value(theirs) - ours).max(initial=0)) for way in ways]
    closest = int(np.argmin(errors))
    size = float(np.abs(theirs).max(initial=0))
    return ways[closest] if errors[closest] < max(1e-2 * size, 0.5 * errors[0]) else first
