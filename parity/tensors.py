"""PyTorch's tensors as NumPy arrays, in memory, without Flax.

Values do not change, down to the bytes. NumPy has bfloat16 from ml_dtypes.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from recipe.system.errors import UserError


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Return a copy of a tensor as a C-contiguous array of the same dtype, shape and bytes.

    Raises:
      UserError: if NumPy has no such array.
    """
    try:
        tensor = tensor.detach().cpu().contiguous()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
        return tensor.numpy().copy()
    except (RuntimeError, TypeError) as error:  # sparse, quantised, 8-bit floats
        kind = f"{tensor.layout} tensor of dtype {tensor.dtype}".replace("torch.", "")
        raise UserError(f"a {kind} has no counterpart in NumPy; convert it to float32 first") from error


def to_tensor(array: np.ndarray) -> Tensor:
    """The inverse of `to_numpy`."""
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
