"""Weights as one safetensors file, which either engine reads: tensors by PyTorch's names, and a record.

`python -m parity convert` and `make release` write such files. They hold no momentum and no position, so no
run goes on from one.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from recipe.state_dict import COUNTER, shapes
from recipe.system import integrity, json_values, matching, plain
from recipe.system.errors import Damaged, UserError
from recipe.system.terminal import printable
from recipe.training.checkpoints import check_record, described, require_finite, unreadable

# safetensors' names of dtypes → those that tensors are sealed by, and NumPy's, which has no bfloat16
_DTYPES = {
    "F64": ("float64", np.float64),
    "F32": ("float32", np.float32),
    "F16": ("float16", np.float16),
    "BF16": ("bfloat16", np.uint16),
    "I64": ("int64", np.int64),
}


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file of weights and check all of it: seals, record, names and shapes, and that it is finite.

    Returns:
      the record, see recipe.training.checkpoints; and the network's tensors as in PyTorch's state dict, by
      name, floats and int64 counters. bfloat16 comes as float32, which is exact.

    Raises:
      UserError: if it is damaged, another project's, or does not fit the network that it describes.
    """
    try:
        plain.check(path)
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        if "record" not in metadata:
            raise UserError(
                f"{path} is of another project: it says nothing about its network; convert it first: python "
                f"-m parity convert {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('')))}"
            )
        tensors = dict(safetensors.deserialize(path.read_bytes()))
    except UserError:
        raise
    except Exception as error:  # a type of its own
        raise unreadable(path, error) from error
    if other := [name for name, tensor in tensors.items() if tensor["dtype"] not in _DTYPES]:
        raise UserError(printable(f"{path}: {other[0]} has the dtype {tensors[other[0]]['dtype']}"))
    digests = {
        f"model.{name}": integrity.digest(_DTYPES[one["dtype"]][0], tuple(one["shape"]), one["data"])
        for name, one in tensors.items()
    }
    try:
        sealed = json_values.parse(metadata["record"])
    except ValueError as error:
        raise Damaged(f"{path} has a damaged record: {error}") from error
    record = check_record(integrity.check(sealed, digests, path), path)
    arrays = {name: _array(one) for name, one in tensors.items()}
    wanted = shapes(described(record, path))
    if not any(name.endswith(COUNTER) for name in arrays):
        wanted = {name: shape for name, shape in wanted.items() if not name.endswith(COUNTER)}
    try:
        matching.check({name: array.shape for name, array in arrays.items()}, wanted)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    require_finite([name for name, array in arrays.items() if not np.isfinite(array).all()], path)
    return record, arrays


def _array(tensor: dict[str, Any]) -> np.ndarray:
    """A tensor as safetensors has it, as an array of its own."""
    array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]][1]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":  # the upper half of a float32's bits
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.copy()
