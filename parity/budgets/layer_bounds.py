"""How far a single layer's output and gradients may be off, element by element, from its inputs alone.

Bounds are γ of the precision asked for, times sizes computed in float64.
"""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.budgets.reference import C, gamma

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
    module: nn.Module, x: Tensor, upstream: Tensor, precision: str, training: bool
) -> dict[str, Tensor]:
    """The largest allowed differences of the gradients of a layer's input ("input") and parameters.

    All of them are sums.

    Args:
      module: a convolution, a linear layer or a batch norm of images, float64.
      x: its input, float64, in PyTorch's layout.
      upstream: the gradient of its output, alike.
      precision: of the engines that are compared.
      training: the mode.
    """
    if isinstance(module, nn.BatchNorm2d):
        return _batch_norm_gradient_bounds(module, x, upstream, precision, training)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    magnitudes = _absolute(module)
    given = x.abs().requires_grad_()
    names = [name for name, _ in magnitudes.named_parameters()]
    sums = torch.autograd.grad(magnitudes(given), [given, *magnitudes.parameters()], upstream.abs())
    terms = {"input": module.weight.numel() // module.weight.shape[1]}
    batch = upstream.numel() // len(module.weight)  # terms of a parameter's gradient
    return {
        name: C * gamma(terms.get(name, batch), precision) * value
        for name, value in zip(["input", *names], sums, strict=True)
    }


def _batch_norm_gradient_bounds(
    module: nn.BatchNorm2d, x: Tensor, upstream: Tensor, precision: str, training: bool
) -> dict[str, Tensor]:
    """γ of the sums in dx = w/σ·(g − mean(g) − x̂·mean(g·x̂)), dw = Σ g·x̂ and db = Σ g, all of magnitudes.

    x̂ = (x − mean)/σ carries the error of the mean, which is a sum itself. In eval mode mean and σ are
    constants, and dx = w/σ·g.
    """
    axes = (0, 2, 3)

    def mean_of(array: Tensor) -> Tensor:
        return array.mean(axes, keepdim=True)

    def channels(vector: Tensor) -> Tensor:
        return vector[None, :, None, None]

    with torch.no_grad():
        n = x.numel() // x.shape[1]
        weight, g = channels(module.weight.abs()), upstream.abs()
        if training:
            mean, var, size = mean_of(x), x.var(axes, correction=0, keepdim=True), mean_of(x.abs())
        else:
            assert module.running_mean is not None
            assert module.running_var is not None
            mean, var = channels(module.running_mean), channels(module.running_var)
            size = mean.abs()
        deviation = torch.sqrt(var + module.eps)
        normalised = ((x - mean).abs() + size) / deviation
        moved = mean_of(g) + normalised * mean_of(g * normalised) if training else torch.zeros_like(g)
        factor = C * gamma(2 * n + FEW, precision)
        return {
            "input": (factor if training else C * gamma(FEW, precision)) * weight / deviation * (g + moved),
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
