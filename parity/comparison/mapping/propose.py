"""A mapping without a converter, by the order of execution, shapes and names. It is a guess."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from parity.comparison.mapping.names import alike
from parity.comparison.mapping.sources import Source, Sources
from parity.comparison.mapping.units import Unit, Way, fit, joined, role, turned, way

Fits = dict[tuple[int, int], dict[str, str]]  # (number in PyTorch, in Flax) → Flax leaf → PyTorch leaf


def propose(units_t: Sequence[Unit], units_f: Sequence[Unit]) -> Sources:
    """The source of every Flax tensor for which one was found.

    Units whose tensors fit are aligned in order of execution, units of one parent are exchanged where their
    names
    say so (q, k and v are alike and may run in another order), and what is left is paired by shape and name.
    """
    fits: Fits = {}
    for i, j in itertools.product(range(len(units_t)), range(len(units_f))):
        pairs = fit(units_t[i], units_f[j])
        if pairs is not None:
            fits[i, j] = pairs
    chosen = _aligned(fits, units_t, units_f)
    _exchange(chosen, fits, units_t, units_f)
    left_t = set(range(len(units_t))) - {i for i, _ in chosen}
    left_f = set(range(len(units_f))) - {j for _, j in chosen}
    for i, j in sorted(fits, key=lambda ij: -alike(units_t[ij[0]].path, units_f[ij[1]].path)):
        if i in left_t and j in left_f:
            chosen.append((i, j))
            left_t.discard(i)
            left_f.discard(j)
    turns = _turns(chosen, fits, units_t, units_f)
    found: Sources = {}
    for i, j in chosen:
        a, b = units_t[i], units_f[j]
        for leaf_f, leaf_t in fits[i, j].items():
            shape = a.tensors[leaf_t]
            square = len(shape) == 2 and shape[0] == shape[1] and shape == b.tensors[leaf_f]
            turn = turns.get((a.kind, b.kind, leaf_f)) if square else None
            chosen_way = way(shape, b.tensors[leaf_f], a.kind, role(leaf_t)) if turn is None else turned(turn)
            assert chosen_way is not None
            found[joined(b.path, leaf_f)] = _source(joined(a.path, leaf_t), chosen_way)
    return found | _singles([units_t[i] for i in left_t], [units_f[j] for j in left_f])


def _aligned(fits: Fits, units_t: Sequence[Unit], units_f: Sequence[Unit]) -> list[tuple[int, int]]:
    """The longest common sequence, where likeness of names is worth less than a pair more."""
    n, m = len(units_t), len(units_f)
    worth = {(i, j): 10 + 3 * alike(units_t[i].path, units_f[j].path) for i, j in fits}
    best = np.zeros((n + 1, m + 1))
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            taken = worth[i, j] + best[i + 1, j + 1] if (i, j) in worth else 0.0
            best[i, j] = max(best[i + 1, j], best[i, j + 1], taken)
    chosen, i, j = [], 0, 0
    while i < n and j < m:
        if (i, j) in worth and np.isclose(best[i, j], worth[i, j] + best[i + 1, j + 1]):
            chosen.append((i, j))
            i, j = i + 1, j + 1
        elif best[i + 1, j] >= best[i, j + 1]:
            i += 1
        else:
            j += 1
    return chosen


def _exchange(
    chosen: list[tuple[int, int]], fits: Fits, units_t: Sequence[Unit], units_f: Sequence[Unit]
) -> None:
    """Swap partners within a parent, as long as names get more alike."""

    def likeness(i: int, j: int) -> float:
        return alike(units_t[i].path, units_f[j].path, digits=False)

    def parent(unit: Unit) -> str:
        return unit.path.rpartition(".")[0]

    near = [
        (x, y)
        for x, y in itertools.combinations(range(len(chosen)), 2)
        if parent(units_t[chosen[x][0]]) == parent(units_t[chosen[y][0]])
        or parent(units_f[chosen[x][1]]) == parent(units_f[chosen[y][1]])
    ]
    better = True
    while better:
        better = False
        for x, y in near:
            (i, j), (k, m) = chosen[x], chosen[y]
            if (i, m) not in fits or (k, j) not in fits:
                continue
            if likeness(i, m) + likeness(k, j) > likeness(i, j) + likeness(k, m) + 1e-9:
                chosen[x], chosen[y] = (i, m), (k, j)
                better = True


def _turns(
    chosen: Sequence[tuple[int, int]], fits: Fits, units_t: Sequence[Unit], units_f: Sequence[Unit]
) -> dict[tuple[str, str, str], bool]:
    """Whether matrices of a kind of layer are transposed, by those that are not square."""
    found = {}
    for i, j in chosen:
        a, b = units_t[i], units_f[j]
        for leaf_f, leaf_t in fits[i, j].items():
            shape_t, shape_f = a.tensors[leaf_t], b.tensors[leaf_f]
            if len(shape_t) == len(shape_f) == 2 and shape_t[0] != shape_t[1]:
                found[a.kind, b.kind, leaf_f] = shape_f == shape_t[::-1]
    return found


def _singles(units_t: Sequence[Unit], units_f: Sequence[Unit]) -> Sources:
    """Tensors that are left, whoever owns them."""
    rest_t = {joined(u.path, leaf): (shape, u.kind) for u in units_t for leaf, shape in u.tensors.items()}
    rest_f = {joined(u.path, leaf): shape for u in units_f for leaf, shape in u.tensors.items()}
    ways = {}
    for (a, (shape, kind)), (b, shape_f) in itertools.product(rest_t.items(), rest_f.items()):
        a_role, b_role = (role(name.rpartition(".")[2]) for name in (a, b))
        if a_role == b_role or "raw" in (a_role, b_role):
            ways[a, b] = way(shape, shape_f, kind, a_role)
    found: Sources = {}
    for a, b in sorted(ways, key=lambda ab: -alike(*ab)):
        single = ways[a, b]
        if single and a in rest_t and b in rest_f:
            found[b] = _source(a, single)
            del rest_t[a], rest_f[b]
    return found


def _source(name: str, chosen: Way) -> Source:
    return Source((name,), lambda t: chosen.move(t[name]), chosen.words, chosen.code)
