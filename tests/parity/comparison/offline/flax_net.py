"""Flax's half of the pair, and the same with a mistake."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import parity


class Net(nnx.Module):
    """What torch_net.py computes, images with channels last."""

    def __init__(self, epsilon: float):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), strides=2, padding=1, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.9, epsilon=epsilon, rngs=rngs)
        self.gain = nnx.Param(jnp.ones(()))
        self.embedding, self.out = nnx.Embed(7, 4, rngs=rngs), nnx.Linear(4 * 16 + 4, 5, rngs=rngs)

    def __call__(self, images: Any, tokens: Any, mask: Any) -> Any:
        """(batch, 8, 8, 3), (batch, length), the same → (batch, 5)."""
        x = jax.nn.relu(self.norm(self.conv(images)))
        x = x.reshape(len(x), -1)
        weights = mask[..., None].astype(x.dtype)
        y = (self.embedding(tokens) * weights).sum(1) / weights.sum(1)
        return self.out(jnp.concatenate([x, y], 1)) * self.gain[...]


def convert(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The converter, in NumPy: the linear layer takes its pixels in another order."""
    pixels, rest = tensors["out.weight"][:, :64], tensors["out.weight"][:, 64:]
    pixels = pixels.reshape(5, 4, 4, 4).transpose(0, 2, 3, 1).reshape(5, 64)
    return {
        "conv.kernel": tensors["conv.weight"].transpose(2, 3, 1, 0), "conv.bias": tensors["conv.bias"],
        "norm.scale": tensors["norm.weight"], "norm.bias": tensors["norm.bias"],
        "norm.mean": tensors["norm.running_mean"], "norm.var": tensors["norm.running_var"],
        "embedding.embedding": tensors["embedding.weight"],
        "out.kernel": np.concatenate([pixels, rest], 1).T, "out.bias": tensors["out.bias"],
        "gain": tensors["gain"],
    }  # fmt: skip


def flax_half(epsilon: float = 1e-5, **settings: Any) -> parity.FlaxHalf:
    """The network."""
    settings = {"weights": convert, "optimizer": optax.sgd(0.1, momentum=0.9), **settings}
    return parity.FlaxHalf(Net(epsilon), **settings)


def mistaken() -> parity.FlaxHalf:
    """With another eps in its batch norm."""
    return flax_half(epsilon=1e-3)


def without_optimizer() -> parity.FlaxHalf:
    """A contradiction."""
    return flax_half(optimizer=None)
