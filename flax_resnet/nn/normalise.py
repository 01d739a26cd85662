"""The arithmetic of batch normalisation in train mode, with its gradient in closed form.

Differentiating the formula line by line gives the same gradient, but in more passes over the activations,
and on an accelerator those are what a step's time goes into.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

AXES = (0, 1, 2)  # batch, height, width
Triple = tuple[jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> Triple:
    """Normalise x (N, H, W, C) with its own statistics.

    All arithmetic is in the dtype of scale. Where x has fewer digits, in a bf16 network, the formulas are
    ones that take fewer passes and lose digits when a mean is large: float32 has 16 bits more than bfloat16,
    so what they lose stays below x's own rounding until a mean is 2⁸ times its deviation.

    Returns:
      y = (x − mean)/√(var + eps)·scale + bias in x's dtype; mean and biased variance (C,) in scale's.
    """
    return _forward(x, scale, bias, eps)[0]


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[Triple, tuple[jax.Array, ...]]:
    low = x.dtype != scale.dtype
    mean, var = _statistics(x, scale.dtype, low)
    r = jax.lax.rsqrt(var + eps)
    wide = x.astype(scale.dtype)
    if low:
        # the barrier lets XLA compute them once and not in every launch that uses them
        r, slope, offset = jax.lax.optimization_barrier((r, r * scale, bias - mean * (r * scale)))
        y = wide * slope + offset
    else:
        y = (wide - mean) * (r * scale) + bias
    return (y.astype(x.dtype), mean, var), (x, scale, mean, r)


def _backward(eps: float, residuals: tuple[jax.Array, ...], cotangents: Triple) -> Triple:
    """With x̂ = (x − mean)·r, r = 1/√(var + eps) and n values per channel (Ioffe and Szegedy 2015):

    dx = scale·r·(dy − Σdy/n − x̂·Σ(dy·x̂)/n) + dmean/n + dvar·2(x − mean)/n.
    """
    x, scale, mean, r = residuals
    dy, dmean, dvar = cotangents
    n = x.size // x.shape[-1]
    centred = x.astype(scale.dtype) - mean
    dy = dy.astype(scale.dtype)
    dbias, dscale = _sums(dy, dy * centred, one_pass=x.dtype != scale.dtype)
    dscale *= r
    slope = (2 * dvar - scale * jnp.square(r) * dscale) / n
    dx = (scale * r) * dy + slope * centred + (dmean - scale * r * dbias) / n
    return dx.astype(x.dtype), dscale, dbias


def _statistics(x: jax.Array, dtype: DTypeLike, low: bool) -> tuple[jax.Array, jax.Array]:
    n = x.size // x.shape[-1]
    x = x.astype(dtype)
    if low:
        total, squares = _sums(x, jnp.square(x), one_pass=True)
        mean = total / n
        return mean, jnp.maximum(squares / n - jnp.square(mean), 0)
    mean = jnp.mean(x, AXES)
    return mean, jnp.mean(jnp.square(x - mean), AXES)


def _sums(a: jax.Array, b: jax.Array, one_pass: bool) -> tuple[jax.Array, jax.Array]:
    """Sum both over all but channels; in one launch on an accelerator, which XLA:CPU does slowly.

    One pass sums complex numbers. In a reduction of two arrays XLA:GPU counts what both are made of twice,
    and keeps it apart from a large array's maker, whose result it then reads again (docs/accelerators.md).
    """
    if not one_pass:
        return jnp.sum(a, AXES), jnp.sum(b, AXES)
    both = jnp.sum(jax.lax.complex(a, b), AXES)
    return both.real, both.imag


normalise.defvjp(_forward, _backward)
