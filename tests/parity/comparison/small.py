"""Networks so small that a comparison takes a second or two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from flax import linen, nnx
from torch import nn


class TorchMLP(nn.Module):
    """Two linear layers with a norm and a GELU between them."""

    def __init__(self, width: int = 12, eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(8, eps=eps)
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 8) → (batch, 3)."""
        return self.second(nn.functional.gelu(self.first(self.norm(x))))


class FlaxMLP(nnx.Module):
    """The same in NNX, with what may be wrong as an argument."""

    def __init__(self, activation: Callable[[Any], Any] | None = None, eps: float = 1e-6, width: int = 12):
        rngs = nnx.Rngs(0)
        self.scaling = nnx.LayerNorm(8, epsilon=eps, rngs=rngs)
        self.up, self.down = nnx.Linear(8, width, rngs=rngs), nnx.Linear(width, 3, rngs=rngs)
        self.activation = activation or (lambda x: nnx.gelu(x, approximate=False))

    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, 8) → (batch, 3)."""
        return self.down(self.activation(self.up(self.scaling(x))))


class LinenMLP(linen.Module):
    """The same in linen."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, 8) → (batch, 3)."""
        x = linen.gelu(linen.Dense(12)(linen.LayerNorm(epsilon=1e-6)(x)), approximate=False)
        return linen.Dense(3)(x)


def linen_mlp() -> tuple[linen.Module, Any]:
    """The linen network with its variables."""
    return LinenMLP(), LinenMLP().init(jax.random.key(0), np.zeros((1, 8), np.float32))


def inputs(batch: int = 5, features: int = 8) -> list[np.ndarray]:
    """Random numbers (batch, features)."""
    return [np.random.default_rng(0).normal(size=(batch, features)).astype(np.float32)]


def torch_mlp(**settings: Any) -> TorchMLP:
    """The PyTorch network with weights of its own."""
    torch.manual_seed(0)
    return TorchMLP(**settings)
