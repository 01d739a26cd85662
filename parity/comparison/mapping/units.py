"""Modules that own tensors themselves, and how a tensor becomes another by shape and kind of module."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from parity.comparison.mapping.names import alike
from parity.comparison.recording import Call

Shape = tuple[int, ...]
ROLES = {
    "weight": "w", "kernel": "w", "scale": "w", "embedding": "w", "gamma": "w", "bias": "b", "beta": "b",
    "running_mean": "m", "mean": "m", "running_var": "v", "var": "v",
}  # fmt: skip
RAW = "raw"  # a tensor whose name says nothing: a class token, a position embedding


class Unit(NamedTuple):
    """A module with tensors of its own."""

    path: str
    kind: str  # class name; "" if it is never called
    tensors: dict[str, Shape]  # by the last part of their names


class Way(NamedTuple):
    """How a tensor goes from PyTorch to Flax."""

    words: str
    code: str  # a Python expression in `t`
    move: Callable[[np.ndarray], np.ndarray]


def role(leaf: str) -> str:
    """What a tensor is for, by its name."""
    return ROLES.get(leaf, RAW)


def joined(path: str, leaf: str) -> str:
    """A tensor's full name."""
    return f"{path}.{leaf}" if path else leaf


def units(order: Sequence[Call], kinds: Mapping[str, str], shapes: Mapping[str, Shape]) -> list[Unit]:
    """All units in the order of execution; one that is never called comes behind its parent."""
    direct: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        direct.setdefault(path, {})[leaf] = tuple(shape)
    called = dict.fromkeys(path for path, _ in order)
    found: dict[str, Unit] = {}
    for path in ["", *called]:
        behind = [p for p in direct if p.startswith(f"{path}.") and p not in called] if path else []
        for candidate in (path, *behind):
            if candidate in direct and candidate not in found:
                found[candidate] = Unit(candidate, kinds.get(candidate, ""), direct[candidate])
    rest = [Unit(path, "", tensors) for path, tensors in direct.items() if path not in found]
    return [*found.values(), *rest]


def way(shape_t: Shape, shape_f: Shape, kind: str, role: str) -> Way | None:
    """The likeliest way from PyTorch's shape to Flax's; None if there is none.

    Args:
      shape_t: of PyTorch's tensor.
      shape_f: of Flax's.
      kind: class name of PyTorch's module.
      role: of PyTorch's tensor.
    """
    if math.prod(shape_t) != math.prod(shape_f):
        return None
    n = len(shape_t)
    if role in "bmv" or n <= 1:
        return _way(tuple(range(n)), shape_t, shape_f)
    if "Transpose" in kind and n > 2:
        return _flipped(shape_t, shape_f)
    for axes in (options := _axes(n, kind, role)):
        if tuple(shape_t[i] for i in axes) == shape_f:
            return _way(axes, shape_t, shape_f)
    for axes in options:  # axes that are split, joined or of one element: heads
        moved = [shape_t[i] for i in axes]
        if [d for d in moved if d != 1] == [d for d in shape_f if d != 1]:
            return _way(axes, shape_t, shape_f)
    return _way((0, 1) if "Embedding" in kind else (1, 0), shape_t, shape_f) if n == 2 else None


def turned(turn: bool) -> Way:
    """A square matrix, transposed or as it is."""
    found = _way((1, 0), (2, 2), (2, 2)) if turn else _way((0, 1), (2, 2), (2, 2))
    assert found is not None
    move = (lambda a: np.ascontiguousarray(a.T)) if turn else (lambda a: a)
    return Way(f"{found.words} (square: as others of its kind)", found.code, move)


def _axes(n: int, kind: str, role: str) -> list[tuple[int, ...]]:
    same = tuple(range(n))
    first: list[tuple[int, ...]] = []
    if "Embedding" in kind or role == RAW:
        first = [same]
    elif n >= 3:
        first = [(*range(2, n), 1, 0)]
    elif kind != "Conv1D":  # transformers' own, whose weight lies as Flax's
        first = [(1, 0)]
    every = itertools.permutations(same) if n <= 4 else ()
    return list(dict.fromkeys([*first, same, *every]))


def _way(axes: tuple[int, ...], shape_t: Shape, shape_f: Shape) -> Way:
    same = axes == tuple(range(len(axes)))
    words = "as it is" if same else "transposed" if axes == (1, 0) else f"axes {axes}"
    code = "t" if same else "t.T" if axes == (1, 0) else f"t.transpose{axes}"
    if tuple(shape_t[i] for i in axes) != shape_f:
        words, code = f"{words}, reshaped", f"{code}.reshape{shape_f}"
    return Way(words, code, lambda a: np.ascontiguousarray(a.transpose(axes)).reshape(shape_f))


def _flipped(shape_t: Shape, shape_f: Shape) -> Way | None:
    """A transposed convolution's kernel: PyTorch's lies (in, out, …) and runs backwards."""
    n = len(shape_t)
    axes = (*range(2, n), 0, 1)
    if tuple(shape_t[i] for i in axes) != shape_f:
        return None
    space = tuple(range(n - 2))
    return Way(
        f"axes {axes}, flipped", f"np.flip(t.transpose{axes}, {space})",
        lambda a: np.ascontiguousarray(np.flip(a.transpose(axes), space)),
    )  # fmt: skip


def fit(a: Unit, b: Unit) -> dict[str, str] | None:
    """Leaf of Flax → leaf of PyTorch, if all of both units' tensors correspond."""
    pairs: dict[str, str] = {}
    left = dict(a.tensors)
    for leaf_f, shape_f in b.tensors.items():
        options = [
            leaf for leaf, shape in left.items()
            if (role(leaf) == role(leaf_f) or RAW in (role(leaf), role(leaf_f)))
            and way(shape, shape_f, a.kind, role(leaf))
        ]  # fmt: skip
        if not options:
            return None
        best = max(
            options, key=lambda leaf: (leaf == leaf_f, role(leaf) == role(leaf_f), alike(leaf, leaf_f))
        )
        pairs[leaf_f] = best
        del left[best]
    return None if left else pairs
