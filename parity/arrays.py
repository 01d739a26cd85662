"""A network's arrays: named as in PyTorch's state dicts ↔ in Flax's nested dicts, in memory.

Names and axes change (flax_resnet/naming.py), values do not, down to the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_resnet.naming import (
    LEAVES,
    by_dotted_path,
    flax_path,
    to_flax_layout,
    to_torch_layout,
    torch_key,
)
from parity.tensors import Arrays
from recipe.system.errors import UserError
from torch_ref.train_state import COUNTER

Tree = dict[str, Any]  # nested dicts of arrays, in Flax's layout

STATISTICS = (LEAVES["mean"], LEAVES["var"])


def params_tree(arrays: Mapping[str, np.ndarray]) -> Tree:
    """The Flax tree of arrays named and shaped like parameters (momentum, gradients) or statistics.

    Raises:
      KeyError: for an array of an unknown name or rank.
    """
    return unflatten_dict(
        {flax_path(key, a.ndim): np.ascontiguousarray(to_flax_layout(a)) for key, a in arrays.items()}
    )


def torch_arrays(tree: Mapping[Any, Any]) -> Arrays:
    """The inverse of `params_tree`; also takes an `nnx.State`.

    Raises:
      UserError: if `tree` is not nested dicts, or has a leaf of an unknown name or rank.
    """
    if isinstance(tree, nnx.State):
        tree = nnx.to_pure_dict(tree)
    try:
        return {
            torch_key(path): np.ascontiguousarray(to_torch_layout(np.asarray(leaf)))
            for path, leaf in flatten_dict(tree).items()
        }
    except (KeyError, AssertionError) as error:  # flatten_dict asserts that it gets a dict
        raise UserError(f"not the tree of a network: {error!r} in it") from error


def split(model: Mapping[str, np.ndarray]) -> Tree:
    """A state dict's arrays as {"params", "batch_stats"}, and "num_batches_tracked" if it has counters."""
    params: Arrays = {}
    statistics: Arrays = {}
    counters: Arrays = {}
    for name, array in model.items():
        leaf = name.rpartition(".")[2]
        group = statistics if leaf in STATISTICS else counters if leaf == COUNTER else params
        group[name] = array
    tree = {"params": params_tree(params), "batch_stats": params_tree(statistics)}
    return tree | ({COUNTER: unflatten_dict(counters, sep=".")} if counters else {})


def join(tree: Mapping[str, Any]) -> Arrays:
    """The inverse of `split`; a group that is absent is taken to be empty.

    Raises:
      UserError: as `torch_arrays`.
    """
    counters = {name: np.asarray(leaf) for name, leaf in by_dotted_path(tree.get(COUNTER, {})).items()}
    return torch_arrays(tree.get("params", {})) | torch_arrays(tree.get("batch_stats", {})) | counters
