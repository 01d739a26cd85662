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
from flax_resnet.nn.normalise import normalise


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

    def __call__(
        self,
        x: jax.Array,
        *,
        residual: jax.Array | None = None,
        relu: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        """Normalise x, then add `residual`, then apply `relu`, where they are given.

        What follows the norm is given to it, and not done behind it, since native kernels do all of it in one
        pass. Elsewhere it is done as written.

        Args:
          x: (N, H, W, C).
          residual: like the result.
          relu: a ReLU; native kernels compute max(x, 0) without calling it.

        Returns:
          (N, H, W, C) in the dtype `dtype`.

        Raises:
          ValueError: in train mode with one value per channel, whose variance says nothing.
        """
        x = x.astype(self.dtype)
        scale, bias = self.scale[...], self.bias[...]
        mean, var = self.mean[...], self.var[...]
        joined = (residual, True) if relu else (None, False)  # what native kernels do besides
        if self.use_running_average:
            if self.cpu_kernels:
                y = ops.norm_eval(x, scale, bias, mean, var, self.eps, *joined)
            else:
                wide = x.astype(self.param_dtype)
                y = (wide - mean) * (jax.lax.rsqrt(var + self.eps) * scale) + bias
                y = y.astype(self.dtype)
        else:
            n = x.size // x.shape[-1]
            if n == 1:
                raise ValueError(f"expected more than 1 value per channel when training, got shape {x.shape}")
            if self.cpu_kernels:
                y, batch_mean, batch_var = ops.norm_train(x, scale, bias, self.eps, *joined)
            else:
                y, batch_mean, batch_var = normalise(x, scale, bias, self.eps)
            self.mean[...] = (1 - self.momentum) * mean + self.momentum * batch_mean
            # PyTorch stores the unbiased variance: n / (n - 1) is the Bessel factor
            self.var[...] = (1 - self.momentum) * var + self.momentum * batch_var * (n / (n - 1))
        return y if self.cpu_kernels and relu else _followed(y, residual, relu)

    def unfused(
        self,
        x: jax.Array,
        *,
        residual: jax.Array | None = None,
        relu: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        """The same in separate steps: `parity.compare` calls this where it looks between them."""
        return _followed(self(x), residual, relu)


def _followed(
    y: jax.Array, residual: jax.Array | None, relu: Callable[[jax.Array], jax.Array] | None
) -> jax.Array:
    """What is given to a batch norm, done behind it."""
    if residual is not None:
        y = y + residual
    return relu(y) if relu else y
