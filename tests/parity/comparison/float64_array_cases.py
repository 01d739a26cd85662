"""Functions that compute with `x` as `dtype`, by primitives of arrays; float64 gives their reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax._src.lax import windowed_reductions

from tests.parity.comparison.float64_helpers import case


@case()
def masked(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    return jax.nn.softmax(jnp.where(y > 0, y, jnp.finfo(dtype).min) * jnp.asarray(0.3, dtype), where=y > -9)


@case(gradient=False)
def scatters(x: Any, dtype: Any) -> Any:
    y, at = x.astype(dtype), jnp.array([2, 0])
    put = jnp.full((4, 6), 0.2, dtype)
    return [getattr(put.at[at], how)(y[:2]) for how in ("set", "add", "subtract", "multiply", "min", "max")]


@case()
def reduces(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    custom = lax.reduce(y, jnp.ones((), dtype), lambda a, b: a * 0.9 + b * 0.0 + 0.1, (0,))
    return custom, y.sum(0), y.prod(1), y.max(), y.argmax(1), (y > 0).any(), y.mean(), y.var(0)


@case(gradient=False)
def windows(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    custom = lax.reduce_window(y, jnp.zeros((), dtype), lambda a, b: a * b + a + b, (2, 2), (1, 2), "SAME")
    return custom, lax.reduce_window(y, -jnp.inf, lax.max, (2, 2), (1, 2), "SAME")


@case()
def pools(x: Any, dtype: Any) -> Any:
    image = x.reshape(1, 4, 6, 1).astype(dtype)
    return nn.max_pool(image, (2, 2), (2, 2)) * 0.1, nn.avg_pool(image, (3, 3), (1, 2), "SAME")


@case(gradient=False)
def scattered_source(x: Any, dtype: Any) -> Any:
    dtype = jnp.float64 if dtype == jnp.float64 else jnp.float32
    y = x.astype(dtype)
    zero = jnp.zeros((), dtype)
    return windowed_reductions._select_and_scatter(
        y, lax.ge, (2, 2), (2, 2), [(0, 0), (0, 0)], y[:2, :3] * 0.1, zero, lax.add
    )


@case()
def matmuls(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    preset = None if dtype == jnp.float64 else lax.DotAlgorithmPreset.BF16_BF16_F32
    return (
        jnp.matmul(y, y.T, preferred_element_type=wide),
        jnp.einsum("ij,kj->ik", y, y * 0.1),
        lax.dot_general(y, y, (((1,), (1,)), ((), ())), precision=preset, preferred_element_type=wide),
        lax.ragged_dot(y, jnp.stack([y.T, y.T * 0.1]), jnp.array([1, 3])),
    )


@case()
def convolutions(x: Any, dtype: Any) -> Any:
    image, kernel = x.reshape(1, 2, 6, 2).astype(dtype), jnp.cos(x[:2].reshape(2, 3, 2, 1)).astype(dtype)
    wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
    axes = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=axes, preferred_element_type=wide
    )
    return out, lax.conv_transpose(image, kernel, (2, 2), "SAME", dimension_numbers=axes)


@case()
def linear_algebra(x: Any, dtype: Any) -> Any:
    y = (x @ x.T + 4 * jnp.eye(4)).astype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
    return (
        jnp.linalg.solve(y, y[0] * 0.1),
        jnp.linalg.inv(y),
        jnp.linalg.cholesky(y),
        jnp.linalg.eigvalsh(y),
        jnp.linalg.svd(y, compute_uv=False),
        jnp.abs(jnp.linalg.qr(y)[1]),
        jnp.linalg.slogdet(y)[1],
        jnp.linalg.norm(y),
    )


@case(gradient=False)  # its derivative holds an array of float32
def fourier(x: Any, dtype: Any) -> Any:
    y = x.astype(jnp.float64 if dtype == jnp.float64 else jnp.float32)
    spectrum = jnp.fft.fft(y * (1 + 0.5j))
    return (
        spectrum,
        jnp.fft.irfft(jnp.fft.rfft(y)),
        spectrum.real * 0.1,
        jnp.conj(spectrum),
        jnp.abs(spectrum),
    )


@case()
def moves(x: Any, dtype: Any) -> Any:
    y, i = x.astype(dtype), jnp.array([3, 1])
    return [
        *(y[i], y[:, i], jnp.take_along_axis(y, jnp.argsort(y, 1), 1), y[::-1].T, jnp.pad(y, 1) + 0.1),
        lax.dynamic_slice(y, (1, i[1]), (2, 3)) * 0.1,
        lax.dynamic_update_slice(y, (y[:2, :2] * 0.1).astype(dtype), (i[1], 0)),
        jnp.concatenate([y, y * 0.3]).reshape(-1, 3),
        jnp.clip(y, -0.3, 0.3),
        *jnp.split(y, 2),
        jnp.tile(y, 2),
        jnp.roll(y, 1) * 0.1,
    ]


@case(gradient=False)
def orders(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    return jnp.sort(y, 1) * 0.1, jnp.argsort(x.astype(jnp.float64)), *lax.top_k(y, 2), jnp.median(y)


@case()
def cumulative(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    mean = lax.associative_scan(lambda a, b: a * 0.9 + b, y)
    return jnp.cumsum(y, 0), lax.cumlogsumexp(y, 1), lax.cummax(y), jnp.cumprod(y, 1, dtype), mean


@case()
def constants(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    frozen = jnp.arange(6, dtype=dtype) * 0.1 + jnp.linspace(0, 1, 6, dtype=dtype)
    return (
        y * frozen,
        jnp.ones_like(y) * 0.3,
        lax.iota(dtype, 6) / 3,
        jax.nn.one_hot(jnp.arange(3), 4, dtype=dtype),
    )


@case()
def activations(x: Any, dtype: Any) -> Any:
    y, nn_ = x.astype(dtype), jax.nn
    functions = (
        *(nn_.relu, nn_.relu6, nn_.silu, nn_.softplus, nn_.selu, nn_.elu, nn_.leaky_relu, nn_.hard_swish),
        *(nn_.sigmoid, jnp.tanh, nn_.softmax, nn_.log_softmax, nn_.logsumexp, nn_.gelu, nn_.standardize),
        partial(nn_.gelu, approximate=False),
        lambda y: jax.scipy.stats.norm.cdf(y.astype(jnp.float32) if dtype != jnp.float64 else y),
        lambda y: jnp.log10(1 + y * y),
    )
    return [function(y) for function in functions]


@case(gradient=False)
def special(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    return (
        *(
            lax.erf_inv(jnp.tanh(y)),
            lax.erf(y),
            lax.rsqrt(y * y + 0.1),
            lax.lgamma(abs(y) + 1),
            y**3,
            y**0.5j,
        ),
        *(
            jnp.log1p(abs(y)),
            jnp.expm1(y),
            lax.digamma(abs(y) + 1),
            jnp.logaddexp(y, 0.1),
            jnp.floor(y) + 0.1,
        ),
    )


@case(gradient=False)
def integers(x: Any, dtype: Any) -> Any:
    counts = jnp.arange(24).reshape(4, 6)
    mean = counts.astype(dtype) / 7
    return (
        (x * 3).astype(dtype).astype(jnp.int32),
        mean,
        mean > 1,
        counts / 7 + x.astype(dtype),
        counts.mean(dtype=dtype),
    )


@case()
def rounded(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    return y if dtype == jnp.float64 else lax.reduce_precision(x, 8, 7) + lax.reduce_precision(y, 5, 5) * 0


@case(gradient=False)
def of_bits(x: Any, dtype: Any) -> Any:
    dtype = jnp.float64 if dtype == jnp.float64 else jnp.float32  # JAX's frexp has no bfloat16
    y = x.astype(dtype) * jnp.asarray(0.1, dtype)
    return jnp.copysign(y + 0.3, y), jnp.signbit(y), jnp.ldexp(y, 3), *jnp.frexp(y)
