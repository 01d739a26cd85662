"""One layer of PyTorch on its own, without JAX and without this project's networks: NumPy in, NumPy out.

Activations are (N, H, W, C), tensors have PyTorch's names and layout.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def torch_backward(
    module: nn.Module,
    x: np.ndarray,
    upstream: np.ndarray,
    dtype: torch.dtype = torch.float64,
    forward: contextlib.AbstractContextManager[object] | None = None,
) -> dict[str, np.ndarray]:
    """Gradients of a layer's input ("input") and parameters in train mode, given its output's.

    Args:
      module: the layer.
      x: its input.
      upstream: the gradient of its output.
      dtype: of both.
      forward: entered for the forward pass.
    """
    given, gradient = (to_nchw(array, dtype) for array in (x, upstream))
    parameters = dict(module.named_parameters())
    with forward or contextlib.nullcontext():
        output = module.train()(given.requires_grad_())
    grads = torch.autograd.grad(output, [given, *parameters.values()], gradient)
    return {"input": to_nhwc(grads[0])} | {
        name: to_float(grad) for name, grad in zip(parameters, grads[1:], strict=True)
    }


def to_nchw(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """An activation (N, H, W, C), or a matrix, as PyTorch's layers take it."""
    tensor = torch.from_numpy(array).to(dtype)
    return tensor.permute(0, 3, 1, 2).contiguous() if tensor.ndim == 4 else tensor


def to_nhwc(tensor: Tensor) -> np.ndarray:
    """A PyTorch activation as float64, channels last."""
    return to_float(tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor)


def to_float(array: Any) -> np.ndarray:
    """Any array as float64 in NumPy."""
    if isinstance(array, Tensor):
        return array.detach().double().numpy().copy()  # float64 would share memory
    return np.asarray(array).astype(np.float64)
