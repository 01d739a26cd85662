"""How far a single layer's output and gradients may be off, element by element, from its inputs alone.

Bounds are γ of the precision asked for, times sizes computed in float64.
"""

from __future__ import annotations

import copy
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.budgets.reference import C, gamma
from parity.torch_layer import torch_backward

FEW = 8  # operations on an element besides the long sums, rounded up


def output_bound(module: nn.Module, x: Tensor, training: bool, precision: str) -> Tensor:
    """The largest allowed difference of two engines' outputs, of the output's shape (NCHW).

    0 for layers that only choose or move values.
    """
    if isinstance(module, nn.Conv2d):
        bias = None if module.bias is None else module.bias.abs()
        sizes = F.conv2d(
            x.abs(), module.weight.abs(), bias, module.stride, module.padding, module.dilation, module.groups
        )
        return C * gamma(module.weight[0].numel() + (bias is not None), precision) * sizes
    if isinstance(module, nn.Linear):
        bias = None if module.bias is None else module.bias.abs()
        sizes = F.linear(x.abs(), module.weight.abs(), bias)
        return C * gamma(module.in_features + (bias is not None), precision) * sizes
    if isinstance(module, nn.BatchNorm2d):
        return _batch_norm_bound(module, x, training, precision)
    return torch.zeros_like(module(x))


def _batch_norm_bound(module: nn.BatchNorm2d, x: Tensor, training: bool, precision: str) -> Tensor:
    """γ of the mean's and the variance's sums, passed on through (x − mean)·scale/√(var + eps) + bias."""

    def channels(vector: Tensor) -> Tensor:
        return vector[None, :, None, None]

    if training:
        n = x.numel() // x.shape[1]
        size = x.abs().mean((0, 2, 3))
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        assert module.running_mean is not None
        assert module.running_var is not None
        n, mean, var = 0, module.running_mean, module.running_var
        size = mean.abs()
    slope = channels(module.weight.abs() / torch.sqrt(var + module.eps))
    offsets = (x - channels(mean)).abs() + channels(size)
    return C * gamma(n + FEW, precision) * (slope * offsets + channels(module.bias.abs()))


def statistics_bound(module: nn.BatchNorm2d, x: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """The largest allowed difference of the new running mean and variance, (channels,) each."""
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.momentum is not None
    n = x.numel() // x.shape[1]
    mean = module.running_mean.abs() + module.momentum * x.abs().mean((0, 2, 3))
    var = module.running_var + module.momentum * x.var((0, 2, 3))
    factor = C * gamma(n + FEW, precision)
    return factor * mean, factor * var


def gradient_bounds(
    module: nn.Module, x: np.ndarray, upstream: np.ndarray, precision: str
) -> dict[str, np.ndarray]:
    """The largest allowed differences of the gradients of a layer's input ("input") and parameters.

    All of them are sums. `x` and `upstream`, the gradient of the output, are (N, H, W, C) or (N, C), float64.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        sums = torch_backward(_absolute(module), np.abs(x), np.abs(upstream))
        batch = upstream.size // upstream.shape[-1]  # terms of a weight's gradient
        terms = {"input": module.weight.numel() // module.weight.shape[1]}
        return {name: C * gamma(terms.get(name, batch), precision) * value for name, value in sums.items()}
    if isinstance(module, nn.BatchNorm2d):
        return _batch_norm_gradient_bounds(module, x, upstream, precision)
    return {"input": np.zeros_like(x)}


def _batch_norm_gradient_bounds(
    module: nn.BatchNorm2d, x: np.ndarray, upstream: np.ndarray, precision: str
) -> dict[str, np.ndarray]:
    """γ of the sums in dx = w/σ·(g − mean(g) − x̂·mean(g·x̂)), dw = Σ g·x̂ and db = Σ g, all of magnitudes.

    x̂ = (x − mean)/σ carries the error of the mean, which is a sum itself.
    """
    axes = (0, 1, 2)
    n = x.size // x.shape[-1]
    weight, g = module.weight.detach().abs().numpy(), np.abs(upstream)
    deviation = np.sqrt(x.var(axes) + module.eps)
    normalised = (np.abs(x - x.mean(axes)) + np.abs(x).mean(axes)) / deviation
    factor = C * gamma(2 * n + FEW, precision)
    return {
        "input": factor * weight / deviation * (g + g.mean(axes) + normalised * (g * normalised).mean(axes)),
        "weight": factor * (g * normalised).sum(axes),
        "bias": factor * g.sum(axes),
    }


def _absolute(module: nn.Module) -> nn.Module:
    """A copy of a layer with the magnitudes of its parameters and buffers."""
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in itertools.chain(twin.parameters(), twin.buffers()):
            tensor.abs_()
    return twin
