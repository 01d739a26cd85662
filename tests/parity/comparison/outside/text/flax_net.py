"""The same small network for text in Flax."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


def turn(x):
    """Rotary positions of (batch, length, heads, size), the halves of the features as pairs."""
    half = x.shape[-1] // 2
    frequencies = 10000 ** (-jnp.arange(half) / half)
    angles = jnp.arange(x.shape[1])[:, None] * frequencies
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


class Tokens(nnx.Embed):
    """An embedding whose token 0 learns nothing by being looked up."""

    def __call__(self, tokens):
        """Look tokens up."""
        x = super().__call__(tokens)
        return jnp.where((tokens == 0)[..., None], jax.lax.stop_gradient(x), x)


class AttentionLayer(nnx.Module):
    """LayerNorm, Flax's own attention, and the sum with where it came from."""

    def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
        self.ln = nnx.LayerNorm(dim, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, dim, decode=False, rngs=rngs)

    def __call__(self, x, valid):
        """`valid` marks the tokens that may be looked at."""
        y = self.ln(x)
        return x + self.attention(y, mask=valid[:, None, None, :])


class FeedForward(nnx.Module):
    """LayerNorm, an MLP with GELU, and the sum with where it came from."""

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs):
        self.ln = nnx.LayerNorm(dim, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.wide = nnx.Linear(dim, hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.narrow = nnx.Linear(hidden, dim, rngs=rngs)

    def __call__(self, x):
        """Work on every token by itself."""
        y = jax.nn.gelu(self.wide(self.ln(x)), approximate=False)
        return x + self.narrow(self.dropout(y))


class RotaryAttention(nnx.Module):
    """Causal attention with rotary positions, every step written out."""

    def __init__(self, dim: int, heads: int, *, rngs: nnx.Rngs):
        self.heads, self.size = heads, dim // heads
        self.wq = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)
        self.wk = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)
        self.wv = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)
        self.wo = nnx.Linear(dim, dim, use_bias=False, rngs=rngs)

    def __call__(self, x, valid):
        """`valid` marks the tokens that may be looked at."""
        b, n, d = x.shape
        q, k, v = (w(x).reshape(b, n, self.heads, self.size) for w in (self.wq, self.wk, self.wv))
        q, k = turn(q), turn(k)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(self.size)
        allowed = valid[:, None, None, :] & jnp.tril(jnp.ones((n, n), bool))
        scores = jnp.where(allowed, scores, -jnp.inf)
        shares = jax.nn.softmax(scores, axis=-1)
        return self.wo(jnp.einsum("bhqk,bkhd->bqhd", shares, v).reshape(b, n, d))


class Gated(nnx.Module):
    """SwiGLU."""

    def __init__(self, dim: int, hidden: int, *, rngs: nnx.Rngs):
        self.gate = nnx.Linear(dim, hidden, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(dim, hidden, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(hidden, dim, use_bias=False, rngs=rngs)

    def __call__(self, x):
        """Gate, multiply, come back."""
        return self.down(nnx.silu(self.gate(x)) * self.up(x))


class TextNet(nnx.Module):
    """Tokens (batch, length), 0 where there is none, to the logits of tokens, and to classes."""

    def __init__(self, vocab: int = 40, dim: int = 32, heads: int = 4, classes: int = 3, *, rngs: nnx.Rngs):
        self.embed = Tokens(vocab, dim, rngs=rngs)
        self.output = self.embed
        self.output_bias = nnx.Param(jnp.zeros(vocab))
        self.positions = nnx.Param(jax.random.normal(rngs.params(), (12, dim)))
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.attention = AttentionLayer(dim, heads, rngs=rngs)
        self.feed_forward = FeedForward(dim, 48, rngs=rngs)
        self.rms1 = nnx.RMSNorm(dim, epsilon=1e-5, rngs=rngs)
        self.rotary = RotaryAttention(dim, heads, rngs=rngs)
        self.rms2 = nnx.RMSNorm(dim, epsilon=1e-5, rngs=rngs)
        self.gated = Gated(dim, 40, rngs=rngs)
        self.last_norm = nnx.LayerNorm(dim, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.pool = nnx.Linear(dim, 1, rngs=rngs)
        self.log_temperature = nnx.Param(jnp.zeros(()))
        self.classify = nnx.Linear(dim, classes, rngs=rngs)

    def __call__(self, tokens, padding):
        """Return a dict of what the network says; `padding` marks what isn't a token."""
        valid = ~padding
        x = self.embed(tokens)
        x = x + self.positions[: tokens.shape[1]]
        x = self.attention(self.dropout(x), valid)
        x = self.feed_forward(x)
        x = x + self.rotary(self.rms1(x), valid)
        x = x + self.gated(self.rms2(x))
        x = self.last_norm(x)
        scores = self.pool(x)[..., 0] / jnp.exp(self.log_temperature[...])
        shares = jax.nn.softmax(jnp.where(valid, scores, -jnp.inf), axis=1)
        pooled = jnp.sum(shares[..., None] * x, axis=1)
        logits = self.output.attend(x) + self.output_bias
        return {"features": pooled, "classes": self.classify(pooled), "logits": logits}
