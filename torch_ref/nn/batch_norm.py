"""Batch norm over the batches of all processes, on any device."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class GlobalBatchNorm(nn.BatchNorm2d):
    """A batch norm that normalises with the statistics of all processes' batches together.

    The same function as `torch.nn.SyncBatchNorm`, which refuses a CPU. It takes over the parameters and
    buffers of `norm`.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, norm: nn.BatchNorm2d):
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """Map this process's (N, C, H, W) to the same shape and dtype; all processes call it together."""
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        wide = x.to(self.weight.dtype)
        count = _Sum.apply(wide.new_tensor(x.numel() // x.shape[1]))
        mean = _Sum.apply(wide.sum(axes)) / count
        centred = wide - mean[:, None, None]
        # not E[x²] − E[x]², which loses digits where the mean is large
        var = _Sum.apply((centred * centred).sum(axes)) / count
        y = centred * (torch.rsqrt(var + self.eps) * self.weight)[:, None, None] + self.bias[:, None, None]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)  # with the Bessel factor
        return y.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes. Each of them uses it, so its gradient is the sum of all of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
