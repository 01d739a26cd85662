"""A Flax path *is* the PyTorch key after one renaming of leaves and one transpose per rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def leaves(tree: Mapping[Any, Any], prefix: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, leaf) of a nested dict, in its order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*prefix, key))
        else:
            yield (*prefix, key), value


def nest(flat: Mapping[tuple[Any, ...], Any]) -> dict[Any, Any]:
    """The inverse of `leaves`."""
    tree: dict[Any, Any] = {}
    for path, value in flat.items():
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return tree


def dotted(path: tuple[Any, ...]) -> str:
    """("layer1", 0, "conv1", "kernel") → "layer1.0.conv1.kernel"."""
    return ".".join(map(str, path))


def torch_key(path: tuple[Any, ...]) -> str:
    """("layer1", 0, "conv1", "kernel") → "layer1.0.conv1.weight"."""
    return dotted((*path[:-1], LEAVES[path[-1]]))


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
    return {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[rank]
