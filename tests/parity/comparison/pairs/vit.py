"""A port of a vision transformer in the way of public ones, with GELU by tanh for the exact one."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import parity


class Size(NamedTuple):
    """Of a network."""

    image: int = 8
    patch: int = 4
    width: int = 16
    heads: int = 4
    hidden: int = 32
    blocks: int = 2
    classes: int = 7

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return (self.image // self.patch) ** 2 + 1


class TorchBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        """(batch, tokens, width) → the same."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TorchViT(nn.Module):
    """Patches, a class token, positions, blocks, a head."""

    def __init__(self, size: Size):
        super().__init__()
        width = size.width
        self.patches = nn.Conv2d(3, width, size.patch, size.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, size.tokens, width))
        self.blocks = nn.ModuleList(TorchBlock(width, size.heads, size.hidden) for _ in range(size.blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, size.classes)

    def forward(self, images):
        """(batch, 3, height, width) → (batch, classes)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class FlaxBlock(nnx.Module):
    """The port of the block."""

    def __init__(self, width: int, heads: int, hidden: int, exact: bool, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(width, hidden, rngs=rngs), nnx.Linear(hidden, width, rngs=rngs)
        self.exact = exact

    def __call__(self, x):
        """(batch, tokens, width) → the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x)), approximate=not self.exact))


class FlaxViT(nnx.Module):
    """The port."""

    def __init__(self, size: Size, exact: bool, rngs: nnx.Rngs):
        width, patch = size.width, size.patch
        self.patches = nnx.Conv(3, width, (patch, patch), strides=patch, padding="VALID", rngs=rngs)
        self.cls = nnx.Param(np.zeros((1, 1, width)))
        self.positions = nnx.Param(np.zeros((1, size.tokens, width)))
        self.blocks = nnx.List(
            [FlaxBlock(width, size.heads, size.hidden, exact, rngs) for _ in range(size.blocks)]
        )
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.head = nnx.Linear(width, size.classes, rngs=rngs)

    def __call__(self, images):
        """(batch, height, width, 3) → (batch, classes)."""
        x = self.patches(images)
        x = x.reshape(len(x), -1, x.shape[-1])
        cls = self.cls[...].repeat(len(x), 0)
        x = jnp.concatenate([cls, x], 1) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def convert(t, size: Size):
    """PyTorch's state dict → Flax's tensors by path."""
    heads = size.heads
    found = {
        "patches.kernel": t["patches.weight"].transpose(2, 3, 1, 0), "patches.bias": t["patches.bias"],
        "cls": t["cls"], "positions": t["positions"], "norm.scale": t["norm.weight"],
        "norm.bias": t["norm.bias"], "head.kernel": t["head.weight"].T, "head.bias": t["head.bias"],
    }  # fmt: skip
    for i in range(size.blocks):
        b = f"blocks.{i}."
        for norm in ("norm1", "norm2"):
            found |= {f"{b}{norm}.scale": t[f"{b}{norm}.weight"], f"{b}{norm}.bias": t[f"{b}{norm}.bias"]}
        for ours, theirs in (("fc1", "mlp.0"), ("fc2", "mlp.2")):
            found |= {
                f"{b}{ours}.kernel": t[f"{b}{theirs}.weight"].T,
                f"{b}{ours}.bias": t[f"{b}{theirs}.bias"],
            }
        w, bias = np.split(t[f"{b}attention.in_proj_weight"], 3), np.split(t[f"{b}attention.in_proj_bias"], 3)
        width = w[0].shape[0]
        for j, name in enumerate(("query", "key", "value")):
            found[f"{b}attention.{name}.kernel"] = w[j].T.reshape(width, heads, -1)
            found[f"{b}attention.{name}.bias"] = bias[j].reshape(heads, -1)
        out = t[f"{b}attention.out_proj.weight"]
        found[f"{b}attention.out.kernel"] = out.T.reshape(heads, -1, width)
        found[f"{b}attention.out.bias"] = t[f"{b}attention.out_proj.bias"]
    return found


def make(size: Size, exact: bool, **settings: Any) -> parity.Pair:
    """Both networks with two images; `settings` are fields of a pair."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(2, 3, size.image, size.image)).astype(np.float32)
    networks = TorchViT(size), FlaxViT(size, exact, nnx.Rngs(0))
    return parity.Pair(*networks, inputs=[images], weights=lambda t: convert(t, size), **settings)


def pair() -> parity.Pair:
    """As it was published: GELU by tanh."""
    return make(Size(), exact=False)


def mended() -> parity.Pair:
    """With the exact GELU."""
    return make(Size(), exact=True)
