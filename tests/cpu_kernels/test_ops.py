"""Each kernel and its gradients against float64, within bounds derived from the data alone.

A sum of n products in float32 errs by at most γₙ·Σ|a||b|, in any order. Results in bfloat16 are rounded once
more; the inputs are bfloat16 numbers on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flax_resnet.cpu_kernels import ops
from parity.budgets.reference import gamma
from tests.cpu_kernels import shapes

CONVS, NORMS = shapes.everything()
BF16 = 2.0**-8  # half a unit
DTYPES = ["float32", "bfloat16"]
EPS = 1e-5


def draw(seed: int, *shape: int, dtype: str = "float32") -> tuple[jax.Array, np.ndarray]:
    """Numbers of a dtype, and the same in float64."""
    array = np.random.default_rng(seed).normal(size=shape).astype(jnp.dtype(dtype))
    return jnp.asarray(array), array.astype(np.float64)


def check(found: jax.Array, wanted: np.ndarray, bound: Any, what: str) -> None:
    """Compare within a bound, plus one rounding in bfloat16."""
    got = np.asarray(found).astype(np.float64)
    assert got.shape == wanted.shape
    rounding = BF16 * (np.abs(wanted) + bound) * (found.dtype == jnp.bfloat16)
    excess = np.abs(got - wanted) - (bound + rounding)
    assert excess.max() <= 0, f"{what}: exceeded by {excess.max():.2e} of {np.abs(wanted).max():.2e}"


def reference_conv(
    x: np.ndarray, w: np.ndarray, dy: np.ndarray | None, stride: int, padding: int | None = None
) -> list[np.ndarray]:
    """y, dx, dw in float64; dy None is all ones, padding None half of the kernel."""
    a = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    b = torch.from_numpy(w).permute(3, 2, 0, 1).requires_grad_()
    y = F.conv2d(a, b, None, stride, w.shape[0] // 2 if padding is None else padding)
    cotangent = torch.ones_like(y) if dy is None else torch.from_numpy(dy).permute(0, 3, 1, 2)
    dx, dw = torch.autograd.grad(y, (a, b), cotangent)
    permuted = (y.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1), dw.permute(2, 3, 1, 0))
    return [tensor.detach().numpy() for tensor in permuted]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("side", "inputs", "outputs", "kernel", "stride"), CONVS)
def test_conv(side: int, inputs: int, outputs: int, kernel: int, stride: int, dtype: str):
    batch = 1 + 2 * (side % 2)
    x, x64 = draw(0, batch, side, side, inputs, dtype=dtype)
    w, w64 = draw(1, kernel, kernel, inputs, outputs, dtype=dtype)
    w = jnp.asarray(np.asarray(w).astype(np.float32))  # as parameters are kept
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, stride, kernel // 2, "onednn"), x, w)
    dy, dy64 = draw(2, *y.shape, dtype=dtype)
    dx, dw = vjp(dy)
    y64, dx64, dw64 = reference_conv(x64, w64, dy64, stride)
    y_sizes, dx_sizes, dw_sizes = reference_conv(abs(x64), abs(w64), abs(dy64), stride)
    check(y, y64, gamma(kernel**2 * inputs, "f32") * y_sizes, "y")
    check(dx, dx64, gamma(kernel**2 * outputs, "f32") * dx_sizes, "dx")
    assert dw.dtype == jnp.float32
    check(dw, dw64, gamma(y64.size // outputs, "f32") * dw_sizes, "dw")


def reference_norm(arrays: Sequence[np.ndarray | None], cotangents: Sequence[np.ndarray], relu: bool) -> Any:
    """(y before ReLU, mean, var) and the gradients of x, residual, scale and bias, in float64."""
    inputs = [None if array is None else torch.from_numpy(array).requires_grad_() for array in arrays]
    x, residual, scale, bias = inputs
    mean = x.mean((0, 1, 2))
    var = ((x - mean) ** 2).mean((0, 1, 2))
    sums = (x - mean) / torch.sqrt(var + EPS) * scale + bias
    sums = sums if residual is None else sums + residual
    outputs = (torch.relu(sums) if relu else sums, mean, var)
    tensors = [tensor for tensor in inputs if tensor is not None]
    grads = torch.autograd.grad(outputs, tensors, [torch.from_numpy(array) for array in cotangents])
    return [t.detach().numpy() for t in (sums, mean, var)], [grad.numpy() for grad in grads]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("side", "channels"), NORMS)
@pytest.mark.parametrize("mode", ["plain", "relu", "add relu"])
def test_norm_in_train_mode(mode: str, side: int, channels: int, dtype: str):
    batch = 2 + 3 * (side % 2)
    relu, n = "relu" in mode, batch * side**2
    x, x64 = draw(0, batch, side, side, channels, dtype=dtype)
    r, r64 = draw(1, *x.shape, dtype=dtype) if "add" in mode else (None, None)
    (scale, scale64), (bias, bias64) = draw(2, channels), draw(3, channels)
    dy, dy64 = draw(4, *x.shape, dtype=dtype)
    (dmean, dmean64), (dvar, dvar64) = draw(5, channels), draw(6, channels)
    (y, mean, var), vjp = jax.vjp(lambda x, r, *a: ops.norm_train(x, *a, EPS, r, relu), x, r, scale, bias)
    arrays = (x64, r64, scale64, bias64)
    (sums, mean64, var64), _ = reference_norm(arrays, (dy64, dmean64, dvar64), relu)
    g = 2 * gamma(n + 16, "f32")
    check(mean, mean64, g * abs(x64).mean((0, 1, 2)), "mean")
    check(var, var64, g * var64, "var")
    inverse = 1 / np.sqrt(var64 + EPS)
    centred = abs(x64 - mean64) + abs(x64).mean((0, 1, 2))
    slope = abs(scale64) * inverse
    bound = g * (slope * centred + abs(bias64) + (0 if r64 is None else abs(r64)))
    check(y, np.maximum(sums, 0) if relu else sums, bound, "y")
    if relu:  # where a sum is nearer to 0 than its bound, either side of the kink is right: leave those out
        clear = np.abs(sums) > bound
        dy, dy64 = jnp.asarray(np.asarray(dy) * clear.astype(dy.dtype)), dy64 * clear
    dx, dr, dscale, dbias = vjp((dy, dmean, dvar))
    _, (dx64, *dr64, dscale64, dbias64) = reference_norm(arrays, (dy64, dmean64, dvar64), relu)
    if dr64:
        check(dr, dr64[0], 0, "dresidual")
    totals, products = abs(dy64).sum((0, 1, 2)), (abs(dy64) * centred * inverse).sum((0, 1, 2))
    check(dbias, dbias64, g * totals, "dbias")
    check(dscale, dscale64, g * products, "dscale")
    parts = slope * (abs(dy64) + totals / n + centred * inverse * products / n)
    check(dx, dx64, 2 * g * (parts + abs(dmean64) / n + abs(dvar64) * 2 * centred / n), "dx")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["plain", "relu", "add relu"])
def test_norm_in_eval_mode(mode: str, dtype: str):
    relu, eps, shape = "relu" in mode, EPS, (2, 5, 5, 19)
    x, x64 = draw(0, *shape, dtype=dtype)
    r, r64 = draw(1, *shape, dtype=dtype) if "add" in mode else (None, 0.0)
    others = [draw(i, shape[-1]) for i in (2, 3, 4, 5)]
    others[3] = (abs(others[3][0]), abs(others[3][1]))  # a variance
    dy, dy64 = draw(6, *shape, dtype=dtype)

    def reference(x: Any, scale: Any, bias: Any, mean: Any, var: Any) -> jax.Array:
        y = (x - mean) / jnp.sqrt(var + eps) * scale + bias + r64
        return jnp.maximum(y, 0) if relu else y

    y, vjp = jax.vjp(lambda x, *a: ops.norm_eval(x, *a, eps, r, relu), x, *(a for a, _ in others))
    y64, vjp64 = jax.vjp(reference, jnp.asarray(x64), *(jnp.asarray(b) for _, b in others))
    check(y, np.asarray(y64), 1e-5 * (1 + abs(np.asarray(y64))), "y")
    for found, wanted in zip(vjp(dy), vjp64(jnp.asarray(dy64)), strict=True):
        check(found, np.asarray(wanted), 1e-5 * np.abs(wanted).max(), "gradient")


def test_a_large_mean_costs_no_digits_of_the_variance():
    x = jnp.asarray(np.random.default_rng(0).normal(1e4, 1, (8, 16, 16, 16)), jnp.float32)
    _, _, var = ops.norm_train(x, jnp.ones(16, jnp.float32), jnp.zeros(16, jnp.float32), EPS, None, False)
    np.testing.assert_allclose(var, np.asarray(x, np.float64).var((0, 1, 2)), rtol=1e-5)


def test_nan_and_infinity_pass():
    x = jnp.ones((2, 4, 4, 16)).at[0, 0, 0, 3].set(jnp.nan)
    for dtype in DTYPES:
        y, mean, _ = ops.norm_train(
            x.astype(dtype), jnp.ones(16, jnp.float32), jnp.zeros(16, jnp.float32), EPS, None, True
        )
        assert np.isnan(np.asarray(y, np.float32)[..., 3]).all()
        assert np.isnan(np.asarray(mean)).sum() == 1
