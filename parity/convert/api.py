"""Conversion in memory, without files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parity.arrays import Tree, join, split
from parity.convert.layouts import describe, named
from parity.convert.state_dicts import check_names, from_state_dict
from parity.tensors import to_numpy, to_tensor
from recipe.system.errors import UserError


def to_flax(state_dict: Mapping[str, Tensor], layout: str | None = None) -> Tree:
    """Turn a PyTorch state dict into Flax trees, in memory.

    Args:
      state_dict: tensors by name, unwrapped: convolutions (out, in, kh, kw), linear weights (out, in).
        Values are copied as they are, NaN included.
      layout: the name of its layout (see `parity.convert.layouts`), or None to find it out.

    Returns:
      {"params", "batch_stats"} and, if the state dict has batch counters, "num_batches_tracked": nested
      dicts of NumPy arrays, keyed by strings as in this project's JAX checkpoints. Convolution kernels are
      (kh, kw, in, out), linear kernels (in, out); every array keeps its dtype and its values, bit for bit.
      `flax_resnet.train_state.fit` puts them into a model's tree.

    Raises:
      UserError: if it holds anything but tensors, if names and shapes do not match those of a network of this
        family (names all differences), if they fit several layouts that compute different functions, or if
        NumPy lacks a dtype.
    """
    strange = [f"{k} is a {type(t).__name__}" for k, t in state_dict.items() if not isinstance(t, Tensor)]
    if strange:
        raise UserError(f"a state dict holds PyTorch tensors only: {'; '.join(strange)}")
    _, _, arrays = from_state_dict({name: to_numpy(tensor) for name, tensor in state_dict.items()}, layout)
    return split(arrays)


def to_torch(tree: Mapping[str, Any], layout: str = "ours") -> dict[str, Tensor]:
    """Turn Flax trees into a PyTorch state dict, in memory; the inverse of `to_flax`.

    Args:
      tree: {"params", "batch_stats"} and optionally "num_batches_tracked", nested dicts of NumPy or JAX
        arrays in Flax's shapes, keyed by strings or, where a model has a list, by integers.
      layout: the name of the layout whose names the state dict gets.

    Returns:
      CPU tensors by name, in PyTorch's shapes and the arrays' dtypes, sharing no memory with the arrays.

    Raises:
      UserError: if names and shapes do not match those of a network that the layout has; names all
        differences.
    """
    target = named(layout)
    _refuse_linen(tree.get("params", {}))
    arrays = join(tree)
    theirs = {target.theirs(name): array for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in theirs.items()}
    check_names(shapes, describe(shapes, target), target)
    return {name: to_tensor(array) for name, array in theirs.items()}


def _refuse_linen(params: Any) -> None:
    """Raise a `UserError` for parameters whose modules have the names that Flax linen gives them."""
    if not isinstance(params, Mapping):
        return
    for name, inner in params.items():
        if re.fullmatch(r"[A-Z]\w*_\d+", str(name)):
            raise UserError(
                f"a tree with names of Flax linen ({name}), which don't say where a layer belongs: give its "
                "layers this project's names first (layer1.0.conv1, …; parity.to_flax shows them)"
            )
        _refuse_linen(inner)
