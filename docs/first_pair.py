"""The pair of docs/compare.md: a small network in PyTorch, and its port."""

import numpy as np
import torch
from flax import nnx
from torch import nn

import parity


class Port(nnx.Module):
    """What the PyTorch network below computes, images with channels last."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm = nnx.GroupNorm(8, num_groups=2, epsilon=1e-5, rngs=rngs)
        self.out = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, images):
        """(batch, height, width, 3) → (batch, 10)."""
        x = nnx.gelu(self.norm(self.conv(images)), approximate=False)
        return self.out(x.mean((1, 2)))


def pair() -> parity.Pair:
    """The two networks, and images as PyTorch takes them."""
    torch.manual_seed(0)
    torch_model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    images = np.random.default_rng(0).normal(size=(2, 3, 16, 16))
    return parity.Pair(torch_model, Port(nnx.Rngs(0)), inputs=[images])
