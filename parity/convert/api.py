"""Conversion in memory, without files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from parity.arrays import Tree, join, split
from parity.convert.layouts import describe, named
from parity.convert.state_dicts import check_names, from_state_dict
from parity.tensors import to_numpy, to_tensor


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
      UserError: if names and shapes do not match those of a network of this family (names all differences),
        if they fit several layouts that compute different functions, or if NumPy lacks a dtype.
    """
    _, _, tensors = from_state_dict(state_dict, layout)
    return split({name: to_numpy(tensor) for name, tensor in tensors.items()})


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
    arrays = join(tree)
    theirs = {target.theirs(name): array for name, array in arrays.items()}
    shapes = {name: array.shape for name, array in theirs.items()}
    check_names(shapes, describe(shapes, target), target)
    return {name: to_tensor(array) for name, array in theirs.items()}
