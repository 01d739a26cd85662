"""State dicts and Flax trees in memory. Names and axes change, bytes do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flax_resnet.naming import LEAVES, leaves, nest, to_flax_layout, to_torch_layout, torch_key
from recipe.system.errors import UserError
from torch_ref.train_state import COUNTER

Arrays = dict[str, np.ndarray]  # keyed as this project's PyTorch state dict, in PyTorch's layout
Tree = dict[str, Any]  # nested dicts of arrays, keyed by Flax path

STATISTICS = {LEAVES[name]: name for name in ("mean", "var")}


def is_param(name: str) -> bool:
    """Whether a name in a state dict is a parameter's, not a statistic's or counter's."""
    return name.rpartition(".")[2] in ("weight", "bias")


def params_tree(arrays: Mapping[str, np.ndarray]) -> Tree:
    """The Flax tree of arrays that are named and shaped like parameters: weights, gradients or momentum."""
    flat = {}
    for key, array in arrays.items():
        *path, leaf = key.split(".")
        if leaf == "weight":
            leaf = "kernel" if array.ndim > 1 else "scale"
        flat[*path, leaf] = np.ascontiguousarray(to_flax_layout(array))
    return nest(flat)


def torch_arrays(tree: Mapping[Any, Any]) -> Arrays:
    """The inverse of `params_tree`; takes trees of statistics as well.

    Raises:
      UserError: for a leaf of an unknown name or rank.
    """
    try:
        return {
            torch_key(path): np.ascontiguousarray(to_torch_layout(np.asarray(leaf)))
            for path, leaf in leaves(tree)
        }
    except (KeyError, AttributeError) as error:
        raise UserError(f"not the tree of a network: {error!r} in it") from error


def split(model: Mapping[str, np.ndarray]) -> Tree:
    """A state dict's arrays as {"params", "batch_stats"}, and "num_batches_tracked" if it has counters."""
    params, statistics, counters = {}, {}, {}
    for key, array in model.items():
        *path, leaf = key.split(".")
        if leaf in STATISTICS:
            statistics[*path, STATISTICS[leaf]] = array
        elif leaf == COUNTER:
            counters[*path, COUNTER] = array
        else:
            params[key] = array
    tree = {"params": params_tree(params), "batch_stats": nest(statistics)}
    return tree | ({COUNTER: nest(counters)} if counters else {})


def join(tree: Mapping[str, Any]) -> Arrays:
    """The inverse of `split`; a group that is absent is taken to be empty."""
    counters = {".".join(map(str, path)): np.asarray(leaf) for path, leaf in leaves(tree.get(COUNTER, {}))}
    return torch_arrays(tree.get("params", {})) | torch_arrays(tree.get("batch_stats", {})) | counters
