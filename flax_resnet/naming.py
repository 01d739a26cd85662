"""The one rule between the frameworks: a tensor's name and the order of its axes, in Flax and in PyTorch.

A path in Flax's nested dicts, joined by dots, is PyTorch's name but for its last part (`LEAVES`). The order
of the axes follows from their number. A layer's position in a list is an integer in a model's paths, a string
in a checkpoint's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from recipe.state_dict import COUNTER

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
STATISTICS = (LEAVES["mean"], LEAVES["var"])
_FLAX_LEAVES = {name: leaf for leaf, name in LEAVES.items() if leaf != "scale"}
Path = tuple[Any, ...]  # the keys from the root of nested dicts to a leaf: strings, and integers in lists


def dotted(path: Path) -> str:
    """("layer1", 0, "conv1", "kernel") → "layer1.0.conv1.kernel"."""
    return ".".join(map(str, path))


def by_dotted_path(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """The leaves of nested dicts, in their order: {"layer1": {0: {"bias": x}}} → {"layer1.0.bias": x}."""
    return {dotted(path): leaf for path, leaf in flatten_dict(tree).items()}


def with_string_keys(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Nested dicts with strings for integers as keys: {"layer1": {0: x}} → {"layer1": {"0": x}}."""
    return unflatten_dict(by_dotted_path(tree), sep=".")


def torch_key(path: Path) -> str:
    """("layer1", 0, "conv1", "kernel") → "layer1.0.conv1.weight".

    Raises:
      KeyError: for an unknown leaf.
    """
    return dotted((*path[:-1], LEAVES[path[-1]]))


def flax_path(key: str, rank: int) -> Path:
    """("layer1.0.conv1.weight", 4) → ("layer1", "0", "conv1", "kernel"); the inverse of `torch_key`.

    PyTorch says "weight" for kernels and for scales, which are the ones of rank 1.

    Raises:
      KeyError: for an unknown name.
    """
    *path, name = key.split(".")
    return (*path, "scale" if name == "weight" and rank == 1 else _FLAX_LEAVES[name])


def params_tree(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The Flax tree of arrays named and shaped like PyTorch's parameters (or their momentum) or statistics.

    Raises:
      KeyError: for an array of an unknown name or rank.
    """
    return unflatten_dict(
        {flax_path(key, a.ndim): np.ascontiguousarray(to_flax_layout(a)) for key, a in arrays.items()}
    )


def variables(model: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A state dict's arrays as {"params", "batch_stats"}, without its counters, which Flax has none of.

    Raises:
      KeyError: for an array of an unknown name or rank.
    """
    leaves = {name: name.rpartition(".")[2] for name in model}
    statistics = {name: array for name, array in model.items() if leaves[name] in STATISTICS}
    params = {name: array for name, array in model.items() if leaves[name] not in (*STATISTICS, COUNTER)}
    return {"params": params_tree(params), "batch_stats": params_tree(statistics)}


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a Flax parameter in PyTorch's layout."""
    return tuple(shape[axis] for axis in _torch_axes(len(shape)))


def to_torch_layout(array: np.ndarray) -> np.ndarray:
    """HWIO → OIHW, (in, out) → (out, in); vectors stay."""
    return array.transpose(_torch_axes(array.ndim))


def to_flax_layout(array: np.ndarray) -> np.ndarray:
    """OIHW → HWIO, (out, in) → (in, out); vectors stay."""
    return array.transpose(np.argsort(_torch_axes(array.ndim)))


def _torch_axes(rank: int) -> tuple[int, ...]:
    """For each of PyTorch's axes the one of Flax; a `KeyError` for a rank that no parameter has."""
    return {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[rank]
