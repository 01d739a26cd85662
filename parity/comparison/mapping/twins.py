"""Which modules are each other's twins: those that own the same tensors. Names are not needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from parity.comparison.mapping.sources import Sources
from parity.comparison.recording import Call
from parity.report.words import plural

Owned = Mapping[str, frozenset[str]]  # module path → names of the tensors in it


class Twin(NamedTuple):
    """One turn of a module, and the same turn of its twin."""

    torch: Call
    flax: Call
    inner: bool  # whether no smaller twins are in it


def find(
    sources: Sources,
    owned_t: Owned,
    owned_f: Owned,
    order_t: Sequence[Call],
    order_f: Sequence[Call],
    unused: frozenset[Call] = frozenset(),
) -> tuple[list[Twin], list[str]]:
    """All twins in PyTorch's order of execution, and what is odd about them in words.

    Calls in `unused`, of Flax, whose results go nowhere, are left out where PyTorch has fewer.

    Of modules that own the same tensors because one only wraps the other, a layer is the innermost, a block
    the outermost: what a wrapper adds belongs to the block.
    """
    flax_of: dict[str, set[str]] = {}
    for path, source in sources.items():
        for name in source.names:
            flax_of.setdefault(name, set()).add(path)

    def in_flax(names: Iterable[str]) -> frozenset[str] | None:
        """The Flax tensors that are made of these alone; None if one of them is made of others as well."""
        names = set(names)
        found = {path for name in names for path in flax_of.get(name, ())}
        return frozenset(found) if {n for path in found for n in sources[path].names} <= names else None

    groups_t = _grouped(order_t, {p: in_flax(names) for p, names in owned_t.items()})
    groups_f = _grouped(
        order_f, {p: frozenset(n for n in names if n in sources) for p, names in owned_f.items()}
    )
    shared = [key for key in groups_t if key in groups_f]
    found, odd = [], []
    for key in shared:
        inner = not any(other < key for other in shared)
        calls_t, calls_f = (
            [call for call in order if call[0] in (_innermost if inner else _outermost)(groups[key])]
            for order, groups in ((order_t, groups_t), (order_f, groups_f))
        )
        needed = [call for call in calls_f if call not in unused]
        if len(calls_t) <= len(needed) < len(calls_f):
            calls = plural(len(calls_f) - len(needed), "call")
            odd.append(f"{calls} of {calls_f[0][0]} in Flax: nothing depends on the result")
            calls_f = needed
        found += [Twin(a, b, inner) for a, b in zip(calls_t, calls_f, strict=False)]
        if len(calls_t) != len(calls_f):
            times = (
                f"{len(calls_t)} times in PyTorch ({calls_t[0][0]}), {len(calls_f)} in Flax ({calls_f[0][0]})"
            )
            odd.append(f"runs {times}: the last ones are compared within what is around them")
    position = {call: i for i, call in enumerate(order_t)}
    return sorted(found, key=lambda twin: position[twin.torch]), odd


def _grouped(
    order: Sequence[Call], keys: Mapping[str, frozenset[str] | None]
) -> dict[frozenset[str], list[str]]:
    groups: dict[frozenset[str], list[str]] = {}
    for path in dict.fromkeys(path for path, _ in order):
        key = keys.get(path)
        if key:
            groups.setdefault(key, []).append(path)
    return groups


def _innermost(paths: Sequence[str]) -> set[str]:
    return {p for p in paths if not any(q.startswith(f"{p}.") for q in paths)}


def _outermost(paths: Sequence[str]) -> set[str]:
    return {p for p in paths if not any(p.startswith(f"{q}.") for q in paths)}
