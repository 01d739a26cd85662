"""A network's arrays: named as in PyTorch's state dicts ↔ in Flax's nested dicts, in memory.

Names and axes change (flax_resnet/naming.py), values do not, down to the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from flax_resnet.naming import by_dotted_path, params_tree, to_torch_layout, torch_key, variables
from recipe.state_dict import COUNTER, Arrays
from recipe.system.errors import UserError

__all__ = ["join", "params_tree", "split", "torch_arrays"]

Tree = dict[str, Any]  # nested dicts of arrays, in Flax's layout


def torch_arrays(tree: Mapping[Any, Any]) -> Arrays:
    """The inverse of `naming.params_tree`; also takes an `nnx.State`.

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
    counters = {name: array for name, array in model.items() if name.rpartition(".")[2] == COUNTER}
    return variables(model) | ({COUNTER: unflatten_dict(counters, sep=".")} if counters else {})


def join(tree: Mapping[str, Any]) -> Arrays:
    """The inverse of `split`; a group that is absent is taken to be empty.

    Raises:
      UserError: as `torch_arrays`.
    """
    counters = {name: np.asarray(leaf) for name, leaf in by_dotted_path(tree.get(COUNTER, {})).items()}
    return torch_arrays(tree.get("params", {})) | torch_arrays(tree.get("batch_stats", {})) | counters
