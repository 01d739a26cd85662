"""Mistakes in an attention as transformers writes it: frequencies in a buffer, two masks that are added."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import Tensor, nn

import parity
from parity.comparison.causes.evidence import as_far_as_it_goes

SIZE, LENGTH = 8, 6
LOW = float(np.finfo(np.float32).min)


class TorchAttention(nn.Module):
    """One head; a token sees the last three, and no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))
        self.register_buffer("inv_freq", 1e4 ** (-torch.arange(SIZE // 2) / (SIZE // 2)), persistent=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(batch, length, size), (batch, length) → (batch, length, size)."""
        angles = torch.outer(torch.arange(x.shape[1]).to(x.dtype), self.inv_freq)
        cos, sin = (torch.cat((f, f), -1) for f in (angles.cos(), angles.sin()))
        q, k = self.q(x), self.k(x)
        q, k = (t * cos + torch.cat((-t[..., SIZE // 2 :], t[..., : SIZE // 2]), -1) * sin for t in (q, k))
        band = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool)
        scores = (q @ k.transpose(-1, -2)).masked_fill(~(band.tril() & ~band.tril(-3)), LOW)
        scores = scores + torch.where(valid[:, None], 0.0, LOW)  # twice masked is lower than once
        return self.out(scores.softmax(-1) @ self.v(x))


class FlaxAttention(nnx.Module):
    """The same, or with a mistake."""

    def __init__(self, base: float = 1e4, alike: bool = False):
        rngs = nnx.Rngs(0)
        self.base, self.alike = base, alike
        self.q, self.k, self.v, self.out = (nnx.Linear(SIZE, SIZE, rngs=rngs) for _ in range(4))

    def __call__(self, x: Any, valid: Any) -> Any:
        """As above."""
        frequencies = self.base ** (-jnp.arange(SIZE // 2, dtype=x.dtype) / (SIZE // 2))
        angles = jnp.outer(jnp.arange(x.shape[1], dtype=x.dtype), frequencies)
        cos, sin = (jnp.concatenate((f, f), -1) for f in (jnp.cos(angles), jnp.sin(angles)))
        q, k = self.q(x), self.k(x)
        q, k = (
            t * cos + jnp.concatenate((-t[..., SIZE // 2 :], t[..., : SIZE // 2]), -1) * sin for t in (q, k)
        )
        scores = jnp.einsum("bqd,bkd->bqk", q, k)
        band = jnp.ones((x.shape[1], x.shape[1]), bool)
        near = jnp.tril(band) & ~jnp.tril(band, -3)
        if self.alike:
            scores = jnp.where(near & valid[:, None], scores, LOW)
        else:
            scores = jnp.where(near, scores, LOW) + jnp.where(valid[:, None], 0.0, LOW)
        return self.out(jax.nn.softmax(scores, -1) @ self.v(x))


@pytest.mark.parametrize(
    ("mistake", "family", "words"),
    [
        ({}, None, ""),
        ({"base": 5e5}, "rotary", "the base of the rotary frequencies is 500,000 instead of 10,000"),
        ({"alike": True}, "attention", "a query whose keys are all masked sees all alike"),
    ],
)
def test_mistakes_in_attention(mistake: dict[str, Any], family: str | None, words: str):
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(2, LENGTH, SIZE)).astype(np.float32)
    valid = np.arange(LENGTH) < np.array([[6], [2]])  # the last query of the second sees padding alone
    report = parity.compare(
        TorchAttention(), FlaxAttention(**mistake), [x, valid], modes=("eval",), precisions=("f64",),
        levels=(1, 2),
    )  # fmt: skip
    if family is None:
        assert report.passed
        return
    first, *others = report.differences
    assert not others
    assert (first.family, first.places[0].torch) == (family, "out")
    assert words in first.words


def test_a_kind_of_mistake_that_fails_does_not_end_the_search():
    def failing() -> Any:
        yield 1
        raise NotImplementedError

    assert list(as_far_as_it_goes(failing())) == [1]
