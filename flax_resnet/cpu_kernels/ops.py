"""The kernels as JAX functions with gradients.

Reverse-mode gradients are kernels of their own; a second derivative is refused by JAX with a clear error, and
so is forward mode. `vmap` runs the calls one after another.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.cpu_kernels.build import has_amx
from recipe.system.processor import processor_flags

Algorithm = Literal["onednn", "winograd", "amx"]

_call = functools.partial(jax.ffi.ffi_call, vmap_method="sequential")


def _like(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def fastest(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> Algorithm:
    """The fastest algorithm for a convolution and its gradients; see `conv`.

    The limits come from measurements of 3×3 convolutions (docs/results/speed.md,
    `python -m tools.convolution_algorithms`).
    """
    if _suits_amx(x, kernel):
        return "amx"
    return "winograd" if _suits_winograd(x, kernel, stride, padding) else "onednn"


def _suits_amx(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether there is a matrix unit, and the batch fills its tiles (amx.h): other algorithms take less."""
    n, _, _, inputs = x.shape
    if kernel.dtype != jnp.float32 or x.dtype != jnp.bfloat16 or not has_amx():
        return False
    return not inputs % 32 and not kernel.shape[-1] % 32 and kernel.shape[0] <= 7 and n >= 16


def _suits_winograd(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> bool:
    """Whether Winograd's algorithm (winograd.h) is faster than oneDNN's.

    It needs 16 multiplications for a tile of 2×2 results instead of 36. At an edge it can't leave out the
    padding, as oneDNN does, and its transforms take time too. Where there is AMX, oneDNN multiplies bfloat16
    matrices eight times faster than a vector unit can, and keeps that precision.
    """
    n, height, width, inputs = x.shape
    outputs = kernel.shape[-1]
    if kernel.dtype != jnp.float32 or (x.dtype == jnp.bfloat16 and "amx_bf16" in processor_flags()):
        return False
    if kernel.shape[0] != 3 or stride != 1 or padding != 1:
        return False
    if inputs % 32 or outputs % 32:
        return False
    tiles = -(-height // 2) * -(-width // 2)
    enough = 64 if x.dtype == jnp.float32 else 128  # for the kernel's transform to pay
    return n * tiles >= enough and (3 * height - 2) * (3 * width - 2) >= 1.4 * 16 * tiles


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def conv(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, algorithm: Algorithm | None = None
) -> jax.Array:
    """Convolve x (N, H, W, I) with a square kernel (K, K, I, O), padded alike on all sides.

    Args:
      x: float32 or bfloat16.
      kernel: float32, or x's dtype; it is multiplied in x's dtype. Its gradient has its own.
      stride: in pixels, on both axes.
      padding: pixels of zeros on every side.
      algorithm: oneDNN's, Winograd's or AMX; by default the fastest. For bfloat16, Winograd's rounds what it
        multiplies, sums of pixels and of kernel entries, to bfloat16.

    Returns:
      (N, H', W', O) in x's dtype, H' = (H + 2·padding − K) // stride + 1; sums are taken in float32.
    """
    sides = [(side + 2 * padding - kernel.shape[0]) // stride + 1 for side in x.shape[1:3]]
    y = jax.ShapeDtypeStruct((x.shape[0], *sides, kernel.shape[-1]), x.dtype)
    return _call("resnet_conv_forward", y)(x, kernel, **_how(x, kernel, stride, padding, algorithm))


def _how(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, algorithm: Algorithm | None
) -> dict[str, np.int64 | str]:
    algorithm = algorithm or fastest(x, kernel, stride, padding)
    return {"stride": np.int64(stride), "padding": np.int64(padding), "algorithm": algorithm}


def _conv_forward(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, algorithm: Algorithm | None
) -> Any:
    return conv(x, kernel, stride, padding, algorithm), (x, kernel)


def _conv_backward(
    stride: int, padding: int, algorithm: Algorithm | None, saved: Any, dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    how = _how(x, kernel, stride, padding, algorithm)
    # two calls, so that XLA drops the one that nobody needs: the gradient of the images
    dx = _call("resnet_conv_input_grad", _like(x))(dy, kernel, **how)
    if kernel.shape[0] == 1 and stride > 1 and padding == 0 and kernel.shape[2] < 16:
        # else several threads of oneDNN write outside of their memory, on processors with AVX-512
        x, how = x[:, ::stride, ::stride], {**how, "stride": np.int64(1)}
    dkernel = _call("resnet_conv_weight_grad", _like(kernel))(x, dy, **how)
    return dx, dkernel


conv.defvjp(_conv_forward, _conv_backward)


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **_: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for what `nnx.Conv` asks of it in this network."""
    return conv(x, kernel, strides[0], padding[0][0])


# What nnx.Conv takes in place of lax.conv_general_dilated and its own promotion: the kernel stays float32,
# and is rounded while it is put into the order of a product.
NNX_CONV: dict[str, Any] = {
    "conv_general_dilated": conv_general_dilated,
    "promote_dtype": lambda arrays, dtype: (jnp.asarray(arrays[0]).astype(dtype), *arrays[1:]),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 5))
def norm_train(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, residual: jax.Array | None, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Batch norm in train mode, then + residual (only where a ReLU follows), then ReLU, in one pass.

    Args:
      x, residual: (N, H, W, C), float32 or bfloat16.
      scale, bias: float32 (C,).

    Returns:
      y like x, and the batch's mean and biased variance, float32 (C,) each.
    """
    vector = jax.ShapeDtypeStruct(scale.shape, jnp.float32)
    call = _call("resnet_norm_train", [_like(x), vector, vector])
    y, mean, var = call(x, _or_empty(residual, x), scale, bias, eps=np.float32(eps), relu=relu)
    return y, mean, var


def _norm_train_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, residual: jax.Array | None, relu: bool
) -> Any:
    y, mean, var = norm_train(x, scale, bias, eps, residual, relu)
    # without a residual the sign of y follows from x, and y need not be read
    return (y, mean, var), (x, None if residual is None else y, scale, bias, mean, var)


def _norm_train_backward(eps: float, relu: bool, saved: Any, cotangents: Any) -> Any:
    return _norm_grad(eps, relu, True, saved, *cotangents)


norm_train.defvjp(_norm_train_forward, _norm_train_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 7))
def norm_eval(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    eps: float,
    residual: jax.Array | None,
    relu: bool,
) -> jax.Array:
    """As `norm_train`, with given statistics; returns y alone."""
    call = _call("resnet_norm_eval", _like(x))
    return call(x, _or_empty(residual, x), scale, bias, mean, var, eps=np.float32(eps), relu=relu)


def _norm_eval_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    eps: float,
    residual: jax.Array | None,
    relu: bool,
) -> Any:
    y = norm_eval(x, scale, bias, mean, var, eps, residual, relu)
    return y, (x, None if residual is None else y, scale, bias, mean, var)


def _norm_eval_backward(eps: float, relu: bool, saved: Any, dy: jax.Array) -> Any:
    _, _, scale, _, mean, var = saved
    zeros = jnp.zeros_like(mean)
    dx, dscale, dbias, dresidual = _norm_grad(eps, relu, False, saved, dy, zeros, zeros)
    # d/dmean and d/dvar follow from the gradients of bias and scale
    inverse = jax.lax.rsqrt(var + eps)
    return dx, dscale, dbias, -dbias * scale * inverse, -0.5 * dscale * scale * inverse**2, dresidual


norm_eval.defvjp(_norm_eval_forward, _norm_eval_backward)


def _norm_grad(
    eps: float, relu: bool, training: bool, saved: Any, dy: jax.Array, dmean: jax.Array, dvar: jax.Array
) -> Any:
    x, mask, scale, bias, mean, var = saved
    empty = jax.ShapeDtypeStruct((0,), x.dtype)
    results = [_like(x), empty if mask is None else _like(x), _like(scale), _like(bias)]
    dx, dresidual, dscale, dbias = _call("resnet_norm_grad", results)(
        dy, x, _or_empty(mask, x), scale, bias, mean, var, dmean, dvar,
        eps=np.float32(eps), relu=relu, training=training,
    )  # fmt: skip
    return dx, dscale, dbias, None if mask is None else dresidual


def _or_empty(array: jax.Array | None, like: jax.Array) -> jax.Array:
    return jnp.zeros(0, like.dtype) if array is None else array
