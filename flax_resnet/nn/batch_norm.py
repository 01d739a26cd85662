"""Batch normalisation with PyTorch's semantics.

`flax.nnx.BatchNorm` differs in ways that break parity: it stores the biased variance, keeps the
statistics in float32 even in a float64 network, and takes the variance as E[x²] − E[x]², which loses
digits when the mean is large.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flax_resnet.cpu_kernels import ops
from flax_resnet.cpu_kernels.layers import Normalised
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

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalise x of shape (N, H, W, C); the result has the dtype `dtype`.

        With native kernels the result is `Normalised`: it is computed, and the running statistics with it,
        when something is done with it, so that "+ residual" and ReLU join the same pass.

        Raises:
          ValueError: in train mode with one value per channel, whose variance says nothing.
        """
        x = x.astype(self.dtype)
        scale, bias = self.scale[...], self.bias[...]
        mean, var = self.mean[...], self.var[...]
        if self.use_running_average:
            if self.cpu_kernels:
                return cast(
                    jax.Array,  # which it is to all who use it
                    Normalised(lambda *then: ops.norm_eval(x, scale, bias, mean, var, self.eps, *then)),
                )
            wide = x.astype(self.param_dtype)
            y = (wide - mean) * (jax.lax.rsqrt(var + self.eps) * scale) + bias
            return y.astype(self.dtype)
        n = x.size // x.shape[-1]
        if n == 1:
            raise ValueError(f"expected more than 1 value per channel when training, got shape {x.shape}")
        running = mean, var

        # from what they were before: a native result that is looked at twice is computed twice
        def update(mean: jax.Array, var: jax.Array) -> None:
            self.mean[...] = (1 - self.momentum) * running[0] + self.momentum * mean
            self.var[...] = (1 - self.momentum) * running[1] + self.momentum * var * (n / (n - 1))

        def native(*then: Any) -> jax.Array:
            y, *statistics = ops.norm_train(x, scale, bias, self.eps, *then)
            update(*statistics)
            return y

        if self.cpu_kernels:
            return cast(jax.Array, Normalised(native))
        y, *statistics = normalise(x, scale, bias, self.eps)
        update(*statistics)
        return y
