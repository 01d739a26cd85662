"""Whole Flax layers that work in float32 and bfloat16, run in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parity.comparison.float64.evaluate import draws_random, in_float64
from tests.parity.comparison.float64_helpers import HALF, close, widened

X = np.random.default_rng(0).normal(size=(3, 8, 6))


def far(actual: Any, expected: Any) -> bool:
    """Whether anything differs by float32's rounding."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return any(np.abs(np.float64(a) - np.float64(e)).max() > 1e-10 for a, e in pairs)


def stored(dtype: Any) -> Any:
    """The dtype of parameters and of cells' first carry."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def settings(dtype: Any, rngs: nnx.Rngs) -> dict[str, Any]:
    return {"dtype": dtype, "param_dtype": stored(dtype), "rngs": rngs}


class Scanned(nnx.Module):
    """Two dense layers, with recomputation, scanned over."""

    def __init__(self, dtype: Any, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=2)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs: nnx.Rngs) -> nnx.Linear:
            return nnx.Linear(6, 6, **settings(dtype, rngs))

        self.layers = create(rngs)

    def __call__(self, x: Any) -> Any:
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        @nnx.remat
        def forward(x: Any, layer: nnx.Linear) -> Any:
            return nnx.gelu(layer(x).astype(x.dtype))

        return nnx.jit(lambda layers, x: forward(x, layers))(self.layers, x)


class Branching(nnx.Module):
    """A shared layer for every row by vmap, and a convolution that is jitted by itself."""

    def __init__(self, dtype: Any, rngs: nnx.Rngs):
        self.linear = nnx.Linear(6, 6, **settings(dtype, rngs))
        self.conv = nnx.Conv(6, 4, (3,), **settings(dtype, rngs))

    def __call__(self, x: Any) -> Any:
        rows = nnx.vmap(lambda layer, row: layer(row), in_axes=(None, 0))(self.linear, x)
        return nnx.jit(lambda conv, x: nnx.leaky_relu(conv(x), 0.2))(self.conv, rows)


NNX: dict[str, Callable[[Any, nnx.Rngs], Any]] = {
    "BatchNorm": lambda dtype, rngs: nnx.BatchNorm(6, **settings(dtype, rngs)),
    "LayerNorm": lambda dtype, rngs: nnx.LayerNorm(6, **settings(dtype, rngs)),
    "GroupNorm": lambda dtype, rngs: nnx.GroupNorm(6, 3, **settings(dtype, rngs)),
    "RMSNorm": lambda dtype, rngs: nnx.RMSNorm(6, **settings(dtype, rngs)),
    "Conv": lambda dtype, rngs: nnx.Conv(6, 4, (3,), strides=2, **settings(dtype, rngs)),
    "ConvTranspose": lambda dtype, rngs: nnx.ConvTranspose(6, 4, (3,), 2, **settings(dtype, rngs)),
    "LSTM": lambda dtype, rngs: nnx.RNN(nnx.LSTMCell(6, 5, **settings(dtype, rngs)), reverse=True),
    "GRU": lambda dtype, rngs: nnx.RNN(nnx.GRUCell(6, 5, **settings(dtype, rngs))),
    "scan and remat": Scanned,
    "vmap and jit": Branching,
}


def losses(make: Callable[[Any, nnx.Rngs], Any], dtype: Any) -> tuple[Callable[[Any, Any], Any], Any]:
    """A layer's loss with its outputs and new state, as a function of its state; and its first state."""
    graph, state = nnx.split(make(dtype, nnx.Rngs(0)))

    def loss(state: Any, x: Any) -> Any:
        layer = nnx.merge(graph, state)
        out = layer(x)
        return jnp.square(out - 0.3).sum(), (out, nnx.state(layer))

    return loss, state


@HALF
@pytest.mark.parametrize("name", NNX)
def test_layers_of_nnx(name: str, dtype: Any):
    loss, state = losses(NNX[name], dtype)
    exact, _ = losses(NNX[name], jnp.float64)
    with_gradients = partial(jax.value_and_grad, argnums=(0, 1), has_aux=True, allow_int=True)
    narrowed: list[str] = []
    actual = jax.jit(in_float64(with_gradients(loss), narrowed))(state, X)
    expected = jax.jit(with_gradients(exact))(widened(state), X)
    close(_floats(actual), _floats(expected), 1e-12)
    assert narrowed
    assert all("/jax/" not in place for place in narrowed)
    assert far(loss(state, X)[1][0], expected[0][1][0])


def _floats(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def attention(state: Any, x: Any) -> Any:
    """Attention by its definition. JAX's own takes the softmax in float32 even of float64."""

    def project(layer: Any) -> Any:
        return jnp.einsum("bti,ihd->bhtd", x, layer["kernel"][...]) + layer["bias"][...][:, None]

    query, key, value = (project(state[name]) for name in ("query", "key", "value"))
    weights = jax.nn.softmax(query @ key.swapaxes(2, 3) / np.sqrt(3.0))
    return (
        jnp.einsum("bhtd,hdo->bto", weights @ value, state["out"]["kernel"][...]) + state["out"]["bias"][...]
    )


@HALF
def test_attention_whose_softmax_is_in_float32(dtype: Any):
    loss, state = losses(
        lambda dtype, rngs: nnx.MultiHeadAttention(2, 6, decode=False, **settings(dtype, rngs)), dtype
    )
    actual = jax.jit(in_float64(jax.grad(lambda state, x: loss(state, x)[0], argnums=1)))(state, X)
    exact = jax.grad(lambda x: jnp.square(attention(widened(state), x) - 0.3).sum())
    close(actual, exact(X))


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.GRUCell])
def test_cells_whose_carry_starts_in_float32(cell: Any):
    """With `dtype=None` and float64 inputs, Flax's own loop refuses their carry."""
    exact, _ = losses(lambda dtype, rngs: nnx.RNN(cell(6, 5, **settings(dtype, rngs))), jnp.float64)
    loss, state = losses(lambda _, rngs: nnx.RNN(cell(6, 5, rngs=rngs)), None)
    close(in_float64(loss)(state, X)[0], exact(widened(state), X)[0])


def test_a_carry_of_float32_beside_values_of_the_default_dtype():
    """What is made by `jnp.zeros` is float64 with x64 whatever the inputs are, and that carry is not."""

    def run(x: Any, rows: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            return carry + (row + jnp.zeros(6)).sum(0) / 3, row.sum()

        total, sums = jax.lax.scan(step, jnp.zeros(6, jnp.float32), x[rows])
        least = jax.lax.reduce_window(total, 1.0, jax.lax.min, [6], [1], "valid")
        return total, sums, rows, least

    rows = np.array([0, 2, 1])
    total, sums, same, least = jax.jit(in_float64(run))(X, rows)
    close(total, (X[rows] / 3).sum((0, 1)))
    close(sums, X[rows].sum((1, 2)))
    close(least, np.minimum((X[rows] / 3).sum((0, 1)).min(), 1.0)[None])
    assert np.array_equal(same, rows)


class Stack(nn.Module):
    """Dense layers of linen, scanned and recomputed, then a norm and a jitted one."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        class Layer(nn.Module):
            dtype: Any

            @nn.compact
            def __call__(self, x: Any, _: Any) -> Any:
                return nn.silu(nn.Dense(6, dtype=self.dtype)(x)).astype(x.dtype), None

        scanned = nn.scan(nn.remat(Layer), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
        x, _ = scanned(self.dtype)(x, None)
        x = nn.BatchNorm(use_running_average=False, dtype=self.dtype)(x)
        return nn.jit(nn.Dense)(3, dtype=self.dtype)(
            nn.RNN(nn.LSTMCell(4, dtype=self.dtype, param_dtype=stored(self.dtype)))(x)
        )


LINEN = {
    "Dense": lambda dtype: nn.Dense(4, dtype=dtype),
    "attention": lambda dtype: nn.MultiHeadDotProductAttention(2, dtype=dtype),
    "stack": Stack,
}


@HALF
@pytest.mark.parametrize("name", LINEN)
def test_layers_of_linen(name: str, dtype: Any):
    variables = LINEN[name](jnp.float32).init(jax.random.key(0), X.astype(np.float32))

    def loss(variables: Any, x: Any, dtype: Any) -> Any:
        out, state = LINEN[name](dtype).apply(variables, x, mutable="batch_stats")
        return jnp.square(out - 0.3).sum(), (out, state)

    with_gradients = partial(jax.value_and_grad, has_aux=True)
    actual = jax.jit(in_float64(with_gradients(partial(loss, dtype=dtype))))(variables, X)
    expected = jax.jit(with_gradients(partial(loss, dtype=jnp.float64)))(widened(variables), X)
    close(actual, expected, 1e-12)
    assert far(loss(variables, X, dtype)[1][0], expected[0][1][0])


def test_dropout_is_said_to_draw():
    dropout = nn.Dropout(0.5, deterministic=False)
    (place,) = draws_random(lambda x, key: dropout.apply({}, x, rngs={"dropout": key}), X, jax.random.key(0))
    assert place.startswith("stochastic.py:")
    layer = nnx.Dropout(0.5)
    assert draws_random(lambda x, key: layer(x, rngs=nnx.Rngs(key)), X, jax.random.key(0)) != []
    layer.eval()
    assert draws_random(layer, X) == []
