"""Calls, loops and branches that compute with `x` as `dtype`; float64 gives their reference."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from tests.parity.comparison.float64_helpers import case


@jax.custom_jvp
def doubled_gradient(x: Any) -> Any:
    return jnp.sin(x) * 0.3


@doubled_gradient.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return doubled_gradient(*primals), 0.7 * jnp.cos(primals[0]) * tangents[0]


@jax.custom_jvp
def powers(x: Any, exponent: Any) -> Any:
    return x**exponent, exponent + 1


@powers.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x, exponent), (change, _) = primals, tangents
    zero = np.zeros(exponent.shape, jax.dtypes.float0)
    return powers(x, exponent), (0.7 * x * change, zero)


@jax.custom_vjp
def tripled_gradient(x: Any, index: Any) -> Any:
    return jnp.sin(x) * 0.3, index + 1


tripled_gradient.defvjp(
    lambda x, index: (tripled_gradient(x, index), (x, jnp.cos(x), index)),
    lambda kept, cts: (0.9 * kept[1] * cts[0] * kept[0], None),
)


def scan(x: Any, dtype: Any, reverse: bool) -> Any:
    """A carry of a float, a count and a float64; float32 within."""

    def body(carry: Any, row: Any) -> Any:
        total, count, wide = carry
        total = (total.astype(jnp.float32).astype(dtype) if dtype != jnp.float64 else total) * 0.9 + row
        return (total, count + 1, wide + total.sum().astype(jnp.float64)), (total * 0.1, count)

    init = (jnp.zeros(6, dtype), jnp.int32(0), jnp.zeros((), jnp.float64))
    return lax.scan(body, init, x.astype(dtype), reverse=reverse)


@case()
def forwards(x: Any, dtype: Any) -> Any:
    return scan(x, dtype, reverse=False)


@case()
def backwards(x: Any, dtype: Any) -> Any:
    return scan(x, dtype, reverse=True)


@case(gradient=False)
def rows_that_stop_by_themselves(x: Any, dtype: Any) -> Any:
    def until(row: Any) -> Any:
        return lax.while_loop(lambda y: jnp.abs(y[0]) > 0.1, lambda y: y * jnp.asarray(0.7, y.dtype), row)

    return jax.vmap(until)(x.astype(dtype))


@case(gradient=False)
def loop(x: Any, dtype: Any) -> Any:
    def body(state: Any) -> Any:
        return state[0] + 1, (state[1] * 0.7).astype(dtype) + jnp.asarray(0.1, dtype)

    return lax.while_loop(lambda state: (state[0] < 5) & (state[1].sum() > -1e9), body, (0, x.astype(dtype)))


@case()
def branch(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    picked = lax.switch(1, [lambda y: y, lambda y: y * 0.1, lambda y: y + 0.3], y)
    return lax.cond(y[0, 0] > 100, lambda y: y, lambda y: jnp.sin(y) * 0.3, picked)


@case()
def regrouped(x: Any, dtype: Any) -> Any:
    """What only passes values on."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("x")

    def body(y: Any) -> Any:
        total, _ = lax.scan(
            lambda c, row: (c * 0.9 + row.astype(dtype), None), jnp.zeros(6, y.dtype) + y[0], y
        )
        return y * 0.1 + lax.psum(total, "x")

    y = x.astype(dtype)
    y = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec)(y)
    y = lax.with_sharding_constraint(y, jax.sharding.NamedSharding(mesh, spec))
    y = checkpoint_name(lax.optimization_barrier(y) * 0.3, "y")
    jax.debug.print("{}", y[0, 0])
    return y + lax.stop_gradient(y)


@case()
def calls(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    y = jax.jit(
        lambda y: y * 0.1 + y.astype(jnp.float16).astype(dtype) if dtype != jnp.float64 else y * 0.1 + y
    )(y)
    y = jax.checkpoint(lambda y: jnp.sin(y) * 0.3)(y)
    y = jax.vmap(lambda row: row * 0.7)(y)
    y, exponent = powers(doubled_gradient(y), jnp.int32(2))
    y, index = tripled_gradient(y, exponent)
    return lax.map(lambda row: row * 0.3, y), index
