"""Each kernel and its gradients against float64, within bounds derived from the data alone.

A sum of n products in float32 errs by at most γₙ·Σ|a||b|, in any order. Results in bfloat16 are rounded once
more; the inputs are bfloat16 numbers on both sides.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.cpu_kernels import ops
from parity.budget import gamma
from tests.cpu_kernels import shapes

CONVS, NORMS = shapes.everything()
BF16 = 2.0**-8  # half a unit
DTYPES = ["float32", "bfloat16"]


def draw(seed: int, *shape: int, dtype: str = "float32") -> tuple[jax.Array, np.ndarray]:
    """Numbers of a dtype, and the same in float64."""
    array = jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)
    return array, np.asarray(array.astype(jnp.float64))


def check(found: jax.Array, wanted: Any, bound: Any, what: str) -> None:
    """Compare within a bound, plus one rounding in bfloat16."""
    got, wanted = np.asarray(found.astype(jnp.float64)), np.asarray(wanted)
    assert got.shape == wanted.shape
    rounding = BF16 * np.abs(wanted) * (found.dtype == jnp.bfloat16) * 1.01
    excess = np.abs(got - wanted) - (np.asarray(bound) + rounding)
    assert excess.max() <= 0, f"{what}: exceeded by {excess.max():.2e} of {np.abs(wanted).max():.2e}"


def reference_conv(x: Any, w: Any, stride: int, padding: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("side", "inputs", "outputs", "kernel", "stride"), CONVS)
@pytest.mark.parametrize("batch", [1, 3])
def test_conv(batch: int, side: int, inputs: int, outputs: int, kernel: int, stride: int, dtype: str):
    padding = kernel // 2
    x, x64 = draw(0, batch, side, side, inputs, dtype=dtype)
    w, w64 = draw(1, kernel, kernel, inputs, outputs, dtype=dtype)
    w = w.astype(jnp.float32)  # as parameters are kept
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, stride, padding), x, w)
    y64, vjp64 = jax.vjp(lambda x, w: reference_conv(x, w, stride, padding), x64, w64)
    sizes, vjp_sizes = jax.vjp(lambda x, w: reference_conv(x, w, stride, padding), abs(x64), abs(w64))
    dy, dy64 = draw(2, *y64.shape, dtype=dtype)
    dx, dw = vjp(dy)
    (dx64, dw64), (dx_sizes, dw_sizes) = vjp64(jnp.asarray(dy64)), vjp_sizes(jnp.asarray(abs(dy64)))
    check(y, y64, gamma(kernel**2 * inputs, "f32") * sizes, "y")
    check(dx, dx64, gamma(kernel**2 * outputs, "f32") * dx_sizes, "dx")
    assert dw.dtype == jnp.float32
    check(dw, dw64, gamma(y64.size // outputs, "f32") * dw_sizes, "dw")


def reference_norm(x: Any, residual: Any, scale: Any, bias: Any, eps: float, relu: bool) -> Any:
    mean = jnp.mean(x, (0, 1, 2))
    var = jnp.mean((x - mean) ** 2, (0, 1, 2))
    y = (x - mean) / jnp.sqrt(var + eps) * scale + bias
    y = y if residual is None else y + residual
    return jnp.maximum(y, 0) if relu else y, mean, var


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("side", "channels"), NORMS)
@pytest.mark.parametrize("mode", ["plain", "relu", "add relu"])
@pytest.mark.parametrize("batch", [1, 5])
def test_norm_in_train_mode(batch: int, mode: str, side: int, channels: int, dtype: str):
    if batch * side**2 == 1:
        pytest.skip("one value per channel")
    relu, eps, n = "relu" in mode, 1e-5, batch * side**2
    x, x64 = draw(0, batch, side, side, channels, dtype=dtype)
    r, r64 = draw(1, *x.shape, dtype=dtype) if "add" in mode else (None, None)
    (scale, scale64), (bias, bias64) = draw(2, channels), draw(3, channels)
    dy, dy64 = draw(4, *x.shape, dtype=dtype)
    (dmean, dmean64), (dvar, dvar64) = draw(5, channels), draw(6, channels)
    (y, mean, var), vjp = jax.vjp(lambda *a: ops.norm_train(*a, eps, relu), x, r, scale, bias)
    (y64, mean64, var64), vjp64 = jax.vjp(
        lambda *a: reference_norm(*a, eps, relu), jnp.asarray(x64), None if r is None else jnp.asarray(r64),
        jnp.asarray(scale64), jnp.asarray(bias64),
    )  # fmt: skip
    g = 2 * gamma(n + 16, "f32")
    check(mean, mean64, g * abs(x64).mean((0, 1, 2)), "mean")
    check(var, var64, g * np.asarray(var64), "var")
    inverse = 1 / np.sqrt(np.asarray(var64) + eps)
    centred = abs(x64 - np.asarray(mean64)) + abs(x64).mean((0, 1, 2))
    slope = abs(scale64) * inverse
    bound = g * (slope * centred + abs(bias64) + (0 if r is None else abs(r64)))
    check(y, y64, bound, "y")
    # where y is nearer to 0 than the bound, either side of the kink is right: no such element counts
    if relu:
        clear = np.abs(reference_norm(x64, r64, scale64, bias64, eps, False)[0]) > bound
        dy, dy64 = dy * jnp.asarray(clear, dy.dtype), dy64 * clear
    dx, dr, dscale, dbias = vjp((dy, dmean, dvar))
    dx64, dr64, dscale64, dbias64 = vjp64(tuple(map(jnp.asarray, (dy64, dmean64, dvar64))))
    if r is not None:
        check(dr, dr64, 0 * abs(dy64), "dresidual")
    sums, products = abs(dy64).sum((0, 1, 2)), (abs(dy64) * centred * inverse).sum((0, 1, 2))
    check(dbias, dbias64, g * sums, "dbias")
    check(dscale, dscale64, g * products, "dscale")
    parts = slope * (abs(dy64) + sums / n + centred * inverse * products / n)
    check(dx, dx64, 2 * g * (parts + abs(dmean64) / n + abs(dvar64) * 2 * centred / n), "dx")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["plain", "relu", "add relu"])
def test_norm_in_eval_mode(mode: str, dtype: str):
    relu, eps, shape = "relu" in mode, 1e-5, (2, 5, 5, 19)
    x, x64 = draw(0, *shape, dtype=dtype)
    r, r64 = draw(1, *shape, dtype=dtype) if "add" in mode else (None, 0.0)
    others = [draw(i, shape[-1]) for i in (2, 3, 4, 5)]
    others[3] = (abs(others[3][0]), abs(others[3][1]))  # a variance
    dy, dy64 = draw(6, *shape, dtype=dtype)

    def reference(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> jax.Array:
        y = (x - mean) / jnp.sqrt(var + eps) * scale + bias + r64
        return jnp.maximum(y, 0) if relu else y

    y, vjp = jax.vjp(lambda x, *a: ops.norm_eval(x, r, *a, eps, relu), x, *(a for a, _ in others))
    y64, vjp64 = jax.vjp(reference, jnp.asarray(x64), *(jnp.asarray(b) for _, b in others))
    check(y, y64, 1e-5 * (1 + abs(y64)), "y")
    for found, wanted in zip(vjp(dy), vjp64(jnp.asarray(dy64)), strict=True):
        check(found, wanted, 1e-5 * np.abs(wanted).max(), "gradient")


def test_a_large_mean_costs_no_digits_of_the_variance():
    x = jnp.asarray(np.random.default_rng(0).normal(1e4, 1, (8, 16, 16, 16)), jnp.float32)
    _, _, var = ops.norm_train(x, None, jnp.ones(16), jnp.zeros(16), 1e-5, False)
    np.testing.assert_allclose(var, np.asarray(x, np.float64).var((0, 1, 2)), rtol=1e-5)


def test_nan_and_infinity_pass():
    x = jnp.ones((2, 4, 4, 16)).at[0, 0, 0, 3].set(jnp.nan)
    for dtype in DTYPES:
        y, mean, _ = ops.norm_train(x.astype(dtype), None, jnp.ones(16), jnp.zeros(16), 1e-5, True)
        assert np.isnan(np.asarray(y, np.float32)[..., 3]).all()
        assert np.isnan(np.asarray(mean)).sum() == 1
