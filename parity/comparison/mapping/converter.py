"""The user's own converter: run it on numbers that are all different, and read off where each came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from parity.comparison.mapping.sources import Gather, Source, Sources
from parity.comparison.recording import Arrays
from recipe.system.errors import UserError, first_line

BASE = 128  # digits that bfloat16 and float16 hold exactly, so that a converter may cast
MOST_PARTS = 4  # of a sum
WORDS = "as the converter says"


class Converter:
    """Calls what the user gave.

    Args:
      convert: a state dict, of NumPy arrays or, if it fails with those, of tensors → Flax's tensors: a dict
        by dotted paths, nested dicts, an `nnx.State`, or a whole model.
      state_dict: float tensors by name → the whole state dict in NumPy.
      named: what `convert` returns → arrays by the dotted paths of Flax.
    """

    def __init__(
        self,
        convert: Callable[[Any], Any],
        state_dict: Callable[[Mapping[str, np.ndarray]], dict[str, Any]],
        named: Callable[[Any], Arrays],
    ):
        self._convert, self._state_dict, self._named = convert, state_dict, named
        self._takes: str | None = None

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> Arrays:
        """Flax's tensors by path, from PyTorch's float tensors by name."""
        given = self._state_dict(tensors)
        failures: list[Exception] = []
        for kind in (self._takes,) if self._takes else ("NumPy arrays", "tensors"):
            try:
                found = self._convert(given if kind == "NumPy arrays" else _as_tensors(given))
            except Exception as error:  # a stranger's code may raise anything
                failures.append(error)
                continue
            self._takes = kind
            return self._named(found)
        first = failures[0]
        raise UserError(
            f"the converter fails on the PyTorch model's state dict: {first_line(first)}"
        ) from first


def fingerprint(convert: Converter, shapes_t: Mapping[str, Any], shapes_f: Mapping[str, Any]) -> Sources:
    """The source of every Flax tensor that the converter gives.

    Args:
      convert: the converter.
      shapes_t: of PyTorch's float tensors.
      shapes_f: of Flax's.

    Raises:
      UserError: if a tensor gets another shape than it has.
    """
    sources, given = _read(convert, shapes_t, shapes_f, list(shapes_t))
    return sources | _computed(
        convert, [p for p in shapes_f if p in given and p not in sources], shapes_t, shapes_f
    )


def _read(
    convert: Converter, shapes_t: Mapping[str, Any], shapes_f: Mapping[str, Any], names: list[str]
) -> tuple[Sources, Collection[str]]:
    """The sources of all Flax tensors that only move numbers of the named tensors, while all others are 0;
    and the paths of all that the converter gives."""
    sizes = [math.prod(shapes_t[n]) for n in names]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if names else 0

    def converted(digits: np.ndarray) -> Arrays:
        parts = np.split(digits.astype(np.float32), ends[:-1])
        given = {n: part.reshape(shapes_t[n]) for n, part in zip(names, parts, strict=True)}
        return convert(_zeros(shapes_t) | given)

    ids = np.arange(total, dtype=np.int64)
    indices: dict[str, Any] = {}
    computed: set[str] = set()
    for p in range(max(1, math.ceil(math.log(max(total, 2), BASE)))):
        found = converted((ids // BASE**p) % BASE + 1)
        for path, shape in shapes_f.items():
            if path not in found:
                continue
            value: Any = np.asarray(found[path], np.float64)
            if value.shape != tuple(shape):
                raise UserError(
                    f"the converter gives {path} the shape {value.shape}; Flax's has {tuple(shape)}"
                )
            whole = np.rint(value)
            if not np.array_equal(whole, value) or value.min(initial=1) < 1 or value.max(initial=1) > BASE:
                computed.add(path)
                continue
            indices[path] = indices.get(path, 0) + (whole.astype(np.int64) - 1) * BASE**p
    others = np.random.default_rng(0).integers(1, BASE + 1, total)  # a sum may look like a number, by chance
    found = converted(others)
    sources = {
        path: _moved(index, names, sizes, ends)
        for path, index in indices.items()
        if path not in computed and (index < total).all() and np.array_equal(others[index], found[path])
    }
    return sources, found.keys()


def _zeros(shapes: Mapping[str, Any]) -> Arrays:
    return {name: np.zeros(shape) for name, shape in shapes.items()}


def _moved(index: np.ndarray, names: list[str], sizes: list[int], ends: np.ndarray) -> Source:
    """A tensor that is gathered from others; `index` counts through all of them in order."""
    which = np.searchsorted(ends, index, "right")
    used = np.unique(which)
    starts = ends - sizes
    offsets = np.zeros(len(names), np.int64)  # of a used tensor in the concatenation of the used ones
    offsets[used] = np.cumsum([0, *(sizes[i] for i in used[:-1])])
    local: Any = index - starts[which] + offsets[which]
    if local.size and local.max() < 2**31:
        local = local.astype(np.int32)
    chosen = tuple(names[i] for i in used)
    if len(chosen) == 1 and np.array_equal(local.ravel(), np.arange(sizes[used[0]])):
        shape = index.shape
        return Source(chosen, lambda t: t[chosen[0]].reshape(shape), WORDS, f"t.reshape{shape}")
    return Source(chosen, Gather(chosen, local), WORDS, _as_code(local, sizes, used))


def _as_code(local: np.ndarray, sizes: list[int], used: np.ndarray) -> str:
    """The gather of one tensor as transposition and reshape, where it is one; shapes of two axes only."""
    if len(used) != 1 or local.size != sizes[used[0]] or local.ndim < 2:
        return ""
    flat = local.ravel()
    columns = local.size // local.shape[0]
    turned = np.arange(local.size).reshape(columns, local.shape[0]).T.ravel()
    return f"t.reshape({columns}, -1).T.reshape{local.shape}" if np.array_equal(flat, turned) else ""


def _computed(
    convert: Converter, paths: list[str], shapes_t: Mapping[str, Any], shapes_f: Mapping[str, Any]
) -> Sources:
    """Tensors that the converter computes, from the tensors that turn them into NaN; sums of a few that only
    move, such as of an LSTM's two biases, have their parts."""
    if not paths:
        return {}
    used: dict[str, list[str]] = {path: [] for path in paths}
    for poisoned, shape in shapes_t.items():
        ones = {n: np.ones(shapes_t[n]) for n in shapes_t}
        found = convert(ones | {poisoned: np.full(shape, np.nan)})
        for path in paths:
            if np.isnan(np.asarray(found[path], np.float64)).any():
                used[path].append(poisoned)
    parts: dict[str, list[Source]] = {path: [] for path in paths if 1 < len(used[path]) <= MOST_PARTS}
    for number in range(max((len(used[path]) for path in parts), default=0)):
        several = {path: shapes_f[path] for path in parts if number < len(used[path])}
        read, _ = _read(convert, shapes_t, several, sorted({used[path][number] for path in several}))
        for path in several:
            parts[path] += [read[path]] if path in read else []
    rng = np.random.default_rng(1)
    given = {name: rng.integers(1, BASE + 1, shape).astype(np.float64) for name, shape in shapes_t.items()}
    found = convert(given)
    sources = {}
    for path in paths:
        names = tuple(used[path])
        few = tuple(parts.get(path, ()))
        if len(few) == len(names) > 1:
            total = Source(names, few[0].build, "a sum, as the converter says", moves=False, parts=few)
            if np.array_equal(total(given), found[path]):
                sources[path] = total
                continue

        def build(tensors: Mapping[str, np.ndarray], path: str = path) -> np.ndarray:
            return np.asarray(convert(_zeros(shapes_t) | dict(tensors))[path], np.float64)

        sources[path] = Source(names, build, "computed by the converter", moves=False)
    return sources


def _as_tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same state dict for converters that take PyTorch's tensors."""
    import torch  # only where PyTorch is at hand anyway

    return {name: torch.tensor(array) for name, array in arrays.items()}
