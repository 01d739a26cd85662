"""Batch normalisation with PyTorch's semantics.

`flax.nnx.BatchNorm` differs in ways that break parity: it stores the biased variance, keeps the
statistics in float32 even in a float64 network, and takes the variance as E[x²] − E[x]², which loses
digits when the mean is large.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flax_resnet.cpu_kernels import ops
from flax_resnet.cpu_kernels.layers import Normalised
from flax_resnet.normalise import normalise


def values_per_channel(x: jax.Array) -> int:
    """N·H·W of an activation (N, H, W, C); `ValueError` if it is 1."""
    n = x.size // x.shape[-1]
    if n == 1:
        raise ValueError(f"expected more than 1 value per channel when training, got shape {x.shape}")
    return n


class BatchNorm(nnx.Module):
    """Normalise over batch, height and width; the twin of `torch.nn.BatchNorm2d`.

    Train mode normalises with the batch's biased variance and updates the running statistics,
    r ← (1 − momentum)·r + momentum·s, where s is the batch's mean or its *unbiased* variance. Eval mode
    normalises with the running statistics and changes nothing. `train()` and `eval()` of the enclosing
    module switch between the two.
    """

    def __init__(
        self,
        num_features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        cpu_kernels: bool = False,
    ):
        self.scale = nnx.Param(jnp.ones(num_features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(num_features, param_dtype))
        self.mean = nnx.BatchStat(jnp.zeros(num_features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(num_features, param_dtype))
        self.eps = eps
        self.momentum = momentum
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.cpu_kernels = cpu_kernels
        self.use_running_average = False  # the name that nnx.Module.train() and .eval() set

    def __call__(self, x: jax.Array) -> jax.Array | Normalised:
        """Normalise x of shape (N, H, W, C); the result has the dtype `dtype`.

        Raises:
          ValueError: in train mode with one value per channel, whose variance says nothing.
        """
        x = x.astype(self.dtype)
        if self.cpu_kernels:
            return Normalised(self._native(x))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
            wide = x.astype(self.param_dtype)
            y = (wide - mean) * (jax.lax.rsqrt(var + self.eps) * self.scale[...]) + self.bias[...]
            return y.astype(self.dtype)
        n = values_per_channel(x)
        y, mean, var = normalise(x, self.scale[...], self.bias[...], self.eps)
        self._update(self.mean[...], self.var[...], mean, var * (n / (n - 1)))
        return y

    def _update(self, old_mean: jax.Array, old_var: jax.Array, mean: jax.Array, var: jax.Array) -> None:
        self.mean[...] = (1 - self.momentum) * old_mean + self.momentum * mean
        self.var[...] = (1 - self.momentum) * old_var + self.momentum * var

    def _native(self, x: jax.Array) -> Callable[[jax.Array | None, bool], jax.Array]:
        """What native code makes of x, given what is added and whether a ReLU follows."""
        scale, bias, mean, var = self.scale[...], self.bias[...], self.mean[...], self.var[...]
        if self.use_running_average:
            return lambda residual, relu: ops.norm_eval(x, residual, scale, bias, mean, var, self.eps, relu)
        n = values_per_channel(x)

        def run(residual: jax.Array | None, relu: bool) -> jax.Array:
            y, batch_mean, batch_var = ops.norm_train(x, residual, scale, bias, self.eps, relu)
            self._update(mean, var, batch_mean, batch_var * (n / (n - 1)))
            return y

        return run
