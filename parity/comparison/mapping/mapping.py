"""The mapping of a pair: every tensor's source, and the modules that are each other's twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.comparison.mapping.converter import Converter, fingerprint
from parity.comparison.mapping.propose import propose
from parity.comparison.mapping.sources import Sources
from parity.comparison.mapping.units import role, units
from parity.comparison.recording import Arrays, Recording
from parity.comparison.structure import Structure
from recipe.system.errors import UserError, nearest

Weights = Callable[[Any], Any] | Mapping[str, tuple[Any, Callable[..., Any]]] | None


@dataclasses.dataclass(frozen=True)
class TensorMap:
    """Where Flax's tensors come from."""

    sources: Sources
    guessed: frozenset[str]  # paths whose source was proposed, not given
    without_source: tuple[str, ...]  # tensors of Flax
    without_destination: tuple[str, ...]  # parameters and statistics of PyTorch
    left_out: tuple[str, ...]  # tensors of Flax to which the user's converter gives nothing
    copies: dict[str, tuple[str, ...]]  # a tensor of PyTorch → several of Flax that are each all of it
    constants: tuple[str, ...]  # buffers of PyTorch that go nowhere, which Flax may compute

    @property
    def used(self) -> frozenset[str]:
        """PyTorch's tensors that go somewhere."""
        return frozenset(name for source in self.sources.values() for name in source.names)

    def carry(self, tensors: Mapping[str, np.ndarray], own: Mapping[str, np.ndarray]) -> Arrays:
        """All tensors of Flax, from PyTorch's; one without a source keeps its own value."""
        return {
            path: np.asarray(self.sources[path](tensors), np.float64) if path in self.sources else value
            for path, value in own.items()
        }


def find(structure: Structure, side_f: Any, described: Recording, weights: Weights) -> TensorMap:
    """Map by a converter, by what is given for some tensors, or by a proposal.

    Args:
      structure: of PyTorch's network.
      side_f: the `FlaxSide`.
      described: what `FlaxSide.describe` gave.
      weights: as `compare` takes it.

    Raises:
      UserError: if nothing can be mapped, or what was given names no tensor.
    """
    shapes_t = structure.shapes
    shapes_f = {n: a.shape for n, a in side_f.tensors().items()}
    given: Sources = {}
    guessed: Sources = {}
    if callable(weights):
        given = fingerprint(Converter(weights, structure.state_dict, side_f.named), shapes_t, shapes_f)
        left_out = tuple(path for path in shapes_f if path not in given)
    else:
        given = _given(weights or {}, structure, shapes_t, shapes_f)
        left_out = ()
    taken = {name for source in given.values() for name in source.names}
    units_t = units(structure.order, structure.kinds, {n: s for n, s in shapes_t.items() if n not in taken})
    units_f = units(described.order, described.kinds, {n: s for n, s in shapes_f.items() if n not in given})
    guessed = propose(units_t, units_f)
    sources = {path: (given | guessed)[path] for path in shapes_f if path in given or path in guessed}
    if not sources:
        raise UserError(
            f"no tensor of PyTorch ({len(shapes_t)}) could be mapped to one of Flax ({len(shapes_f)}): "
            "give weights=, a function that converts the state dict"
        )
    used = {name for source in sources.values() for name in source.names}
    unused = [name for name in shapes_t if name not in used]
    counts = {*structure.parameters, *(n for n in structure.persistent if not _is_table(n, structure))}
    return TensorMap(
        sources,
        frozenset(guessed),
        tuple(path for path in shapes_f if path not in sources),
        tuple(name for name in unused if name in counts),
        left_out,
        _copies(sources, shapes_t, shapes_f),
        tuple(name for name in unused if name not in counts),
    )


def as_python(mapped: TensorMap) -> str:
    """The mapping as a dict to paste behind `weights=`."""
    lines = ["weights = {"]
    for path, source in mapped.sources.items():
        names = source.names[0] if len(source.names) == 1 else source.names
        code = source.code or "..."
        arguments = "t" if len(source.names) == 1 else "*t"
        note = "" if source.code else f"  # {source.words}"
        lines.append(f"    {path!r}: ({names!r}, lambda {arguments}: {code}),{note}")
    lines.append("}")
    lines += [f"# of Flax, without a source: {path}" for path in mapped.without_source]
    lines += [f"# of PyTorch, without a destination: {name}" for name in mapped.without_destination]
    return "\n".join(lines)


def _is_table(name: str, structure: Structure) -> bool:
    """Whether a buffer is a table that Flax may compute, such as of positions: no statistic, and not uniform,
    since what is all 0 or 1 would not be missed in the values."""
    return name not in structure.uniform and role(name.rpartition(".")[2]) not in "mv"


def _given(
    weights: Mapping[str, tuple[Any, Callable[..., Any]]], structure: Structure, shapes_t: Any, shapes_f: Any
) -> Sources:
    """What the user says of some tensors, read off by the same numbers as a converter."""
    chosen: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {}
    for path, (names, fn) in weights.items():
        named = tuple(structure.tied.get(n, n) for n in ((names,) if isinstance(names, str) else names))
        for what, name, valid in (("Flax", path, shapes_f), *(("PyTorch", n, shapes_t) for n in named)):
            if name not in valid:
                raise UserError(f"weights: {what} has no tensor {name!r}; {nearest(name, valid)}")
        chosen[path] = named, fn

    def convert(tensors: Any) -> Arrays:
        return {path: np.asarray(fn(*(tensors[n] for n in names))) for path, (names, fn) in chosen.items()}

    return fingerprint(Converter(convert, structure.state_dict, dict), shapes_t, shapes_f) if chosen else {}


def _copies(sources: Sources, shapes_t: Any, shapes_f: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        if len(source.names) == 1 and np.prod(shapes_f[path]) == np.prod(shapes_t[source.names[0]]):
            found.setdefault(source.names[0], []).append(path)
    return {name: tuple(paths) for name, paths in found.items() if len(paths) > 1}
