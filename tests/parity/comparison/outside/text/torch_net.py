"""A small network for text: an encoder block, a block with rotary positions, tied logits, and classes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rotate_half(x: Tensor) -> Tensor:
    """The second half of the features, negated, before the first."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


def rotary(x: Tensor) -> Tensor:
    """Turn the features of (batch, heads, length, size) by their positions."""
    size = x.shape[-1]
    frequencies = 1.0 / 10000 ** (torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(x.shape[-2]).to(frequencies), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return x * angles.cos() + rotate_half(x) * angles.sin()


class Attention(nn.Module):
    """Self-attention with one matrix for queries, keys and values."""

    def __init__(self, dim: int, heads: int, causal: bool = False, bias: bool = True):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.proj = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        allowed = ~padding[:, None, None, :]
        if self.causal:
            q, k = rotary(q), rotary(k)
            allowed = allowed & torch.ones(n, n, dtype=torch.bool).tril()
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        return self.proj(x.transpose(1, 2).reshape(b, n, d))


class EncoderBlock(nn.Module):
    """LayerNorm before attention and before an MLP with GELU."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, dim))

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), padding)
        return x + self.mlp(self.norm2(x))


class RMSNorm(nn.Module):
    """Divides by the root of the mean square."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class SwiGLU(nn.Module):
    """A gated MLP whose gate and values come from one matrix."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden, bias=False)
        self.w3 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * up)


class RotaryBlock(nn.Module):
    """RMSNorm before causal attention and before a SwiGLU."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.attn = Attention(dim, heads, causal=True, bias=False)
        self.ffn = SwiGLU(dim, hidden)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), padding)
        return x + self.ffn(self.norm2(x))


class TextNet(nn.Module):
    """Tokens (batch, length), 0 where there is none, to the logits of tokens, and to classes."""

    def __init__(
        self, vocabulary: int = 40, dim: int = 32, heads: int = 4, classes: int = 3, longest: int = 12
    ):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, dim, padding_idx=0)
        self.position = nn.Parameter(0.1 * torch.randn(1, longest, dim))
        self.drop = nn.Dropout(0.1)
        self.encoder = EncoderBlock(dim, heads, 48)
        self.decoder = RotaryBlock(dim, heads, 40)
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, 1)
        self.temperature = nn.Parameter(torch.tensor(math.log(0.5)))
        self.classifier = nn.Linear(dim, classes)
        self.lm_head = nn.Linear(dim, vocabulary)
        self.lm_head.weight = self.embed.weight

    def forward(self, tokens: Tensor, padding: Tensor) -> dict[str, Tensor]:
        x = self.embed(tokens) + self.position[:, : tokens.shape[1]]
        x = self.encoder(self.drop(x), padding)
        x = self.norm(self.decoder(x, padding))
        scores = self.score(x).squeeze(-1) / self.temperature.exp()
        shares = scores.masked_fill(padding, float("-inf")).softmax(dim=1)
        pooled = torch.einsum("bn,bnd->bd", shares, x)
        return {"logits": self.lm_head(x), "classes": self.classifier(pooled), "features": pooled}
