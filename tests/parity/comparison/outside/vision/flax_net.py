"""The same small network for images in Flax, NHWC."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class BatchNorm(nnx.Module):
    """Batch norm as PyTorch has it: an exact mean, two passes, a running variance with Bessel's factor."""

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))

    def __call__(self, x, train: bool):
        """Normalise NHWC, by the batch where `train`."""
        mean, var = self.mean[...], self.var[...]
        if train:
            n = x.size // x.shape[-1]
            batch_mean = jnp.mean(x, (0, 1, 2))
            batch_mean += jnp.mean(x - batch_mean, (0, 1, 2))  # what float32 lost
            batch_var = jnp.mean(jnp.square(x - batch_mean), (0, 1, 2))
            self.mean[...] = 0.9 * mean + 0.1 * batch_mean
            self.var[...] = 0.9 * var + 0.1 * batch_var * (n / (n - 1))
            mean, var = batch_mean, batch_var
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * self.scale[...] + self.bias[...]


class ConvNorm(nnx.Module):
    """A 3×3 convolution, batch norm, and perhaps a ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, relu: bool = True, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            inputs, outputs, (3, 3), stride, padding=((1, 1), (1, 1)), use_bias=False, rngs=rngs
        )
        self.norm = BatchNorm(outputs)
        self.relu = relu

    def __call__(self, x, train: bool):
        """Convolve and normalise."""
        x = self.norm(self.conv(x), train)
        return nnx.relu(x) if self.relu else x


class Residual(nnx.Module):
    """Two `ConvNorm` with a way around them."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.first = ConvNorm(channels, channels, relu=True, rngs=rngs)
        self.second = ConvNorm(channels, channels, relu=False, rngs=rngs)

    def __call__(self, x, train: bool):
        """Add, then ReLU."""
        y = self.first(x, train)
        return nnx.relu(self.second(y, train) + x)


class Mixer(nnx.Module):
    """Mixes positions, then channels: both MLPs are here, without modules of their own."""

    def __init__(self, tokens: int, channels: int, *, rngs: nnx.Rngs):
        self.ln_tokens = nnx.LayerNorm(channels, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.ln_channels = nnx.LayerNorm(channels, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.tokens_in = nnx.Linear(tokens, 24, rngs=rngs)
        self.tokens_out = nnx.Linear(24, tokens, rngs=rngs)
        self.channels_in = nnx.Linear(channels, 32, rngs=rngs)
        self.channels_out = nnx.Linear(32, channels, rngs=rngs)

    def __call__(self, x):
        """Work on (batch, positions, channels)."""
        y = jnp.swapaxes(self.ln_tokens(x), 1, 2)
        y = self.tokens_out(nnx.gelu(self.tokens_in(y), approximate=False))
        x = x + jnp.swapaxes(y, 1, 2)
        z = self.channels_in(self.ln_channels(x))
        z = jax.nn.gelu(z, approximate=False)
        return x + self.channels_out(z)


class VisionNet(nnx.Module):
    """Images (batch, 16, 20, 3) to classes, features and a map of half their size."""

    def __init__(self, classes: int = 10, *, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, 8, stride=2, rngs=rngs)
        self.spatial = nnx.Conv(8, 16, (3, 3), padding=1, feature_group_count=8, rngs=rngs)
        self.groups = nnx.GroupNorm(16, num_groups=4, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.residual = Residual(16, rngs=rngs)
        self.mixer = Mixer(20, 16, rngs=rngs)
        self.decoder = nnx.ConvTranspose(16, 6, (3, 3), (2, 2), padding=((1, 2), (1, 2)), rngs=rngs)
        self.hidden = nnx.Linear(96, 24, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.classifier = nnx.Linear(24, classes, rngs=rngs)

    def __call__(self, images, train: bool = False):
        """Return a dict of what the network says."""
        x = self.stem(images, train)
        x = self.groups(self.spatial(x))
        x = nnx.silu(x)
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        x = self.residual(x, train)
        b, h, w, c = x.shape
        x = self.mixer(x.reshape(b, h * w, c)).reshape(b, h, w, c)
        features = nnx.avg_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)), count_include_pad=True)
        y = nnx.relu(self.hidden(features.reshape(b, -1)))
        y = self.dropout(y, deterministic=not train)
        return {
            "features": features,
            "logits": self.classifier(y),
            "map": jnp.tanh(self.decoder(x)),
        }
