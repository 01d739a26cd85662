"""ResNet for small images in Flax NNX. Lay it beside torch_ref/model.py: it is the same network.

Images are NHWC here and NCHW there. Attribute names are the parameter names of both. A batch norm is given
what follows it, so that native kernels can join them: `bn(x, residual=r, relu=relu)` is relu(bn(x) + r).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from flax_resnet.cpu_kernels.ops import NNX_CONV
from flax_resnet.nn.activations import relu
from flax_resnet.nn.batch_norm import BatchNorm
from recipe.architectures import EXPANSION, STEMS, ModelDescription

# PyTorch's default for weights, uniform in ±1/√fan_in. A training run draws all of them in
# recipe/initial_weights.py; this is for a model that somebody makes on its own.
kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class ReLU(nnx.Module):
    """A module, so that the layer table and the parity suite see its output."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return max(x, 0)."""
        # its gradient needs x, which a batch norm keeps anyway; after a sum, activations.relu keeps y alone
        return jax.nn.relu(x)


class Layers:
    """Makes the layers of one network, all with the same dtypes.

    `dtype` is what convolutions compute in, `param_dtype` what parameters and statistics are kept in;
    `cpu_kernels` puts native code in place of `lax.conv_general_dilated` and of batch norm's arithmetic.
    """

    def __init__(self, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs, cpu_kernels: bool):
        self.dtype, self.param_dtype, self.rngs, self.cpu_kernels = dtype, param_dtype, rngs, cpu_kernels
        # Without it, float32 convolutions on an accelerator run in TF32 or bfloat16.
        self.precision = None if dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST

    def conv(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nnx.Conv:
        """A square convolution, padded alike on all sides ("SAME" is lopsided at stride 2)."""
        return nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            strides=stride,
            padding=kernel // 2,
            use_bias=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=kernel_init,
            rngs=self.rngs,
            **(NNX_CONV if self.cpu_kernels else {}),
        )

    def norm(self, features: int) -> BatchNorm:
        """A batch norm over the channels."""
        return BatchNorm(
            features, dtype=self.dtype, param_dtype=self.param_dtype, cpu_kernels=self.cpu_kernels
        )

    def linear(self, inputs: int, outputs: int) -> nnx.Linear:
        """A fully connected layer; its bias is drawn like its weight, as in PyTorch."""
        bound = inputs**-0.5
        return nnx.Linear(
            inputs,
            outputs,
            bias_init=partial(jax.random.uniform, minval=-bound, maxval=bound),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            precision=self.precision,
            kernel_init=kernel_init,
            rngs=self.rngs,
        )


class Shortcut(nnx.Module):
    """The parameter-free shortcut (option A): every second pixel, new channels filled with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (N, H, W, inputs) to (N, ⌈H/stride⌉, ⌈W/stride⌉, outputs)."""
        return jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (self.pad, self.pad)))


def make_shortcut(layers: Layers, kind: str, inputs: int, outputs: int, stride: int) -> nnx.List:
    """The layers between a block's input and its sum: none where the shape stays the same."""
    if inputs == outputs and stride == 1:
        return nnx.List([])
    if kind == "pad":
        return nnx.List([Shortcut(inputs, outputs, stride)])
    return nnx.List([layers.conv(inputs, outputs, 1, stride), layers.norm(outputs)])


class ResBlock(nnx.Module):
    """Two 3×3 convolutions and a shortcut around them."""

    def __init__(self, layers: Layers, inputs: int, width: int, stride: int, shortcut: str):
        self.conv1 = layers.conv(inputs, width, 3, stride)
        self.bn1 = layers.norm(width)
        self.relu = ReLU()
        self.conv2 = layers.conv(width, width, 3)
        self.bn2 = layers.norm(width)
        self.shortcut = make_shortcut(layers, shortcut, inputs, width, stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (N, H, W, inputs) to (N, ⌈H/stride⌉, ⌈W/stride⌉, width)."""
        y = self.bn1(self.conv1(x), relu=self.relu)
        y = self.conv2(y)
        for layer in self.shortcut:
            x = layer(x)
        return self.bn2(y, residual=x, relu=relu)


class Bottleneck(nnx.Module):
    """1×1, 3×3 and 1×1 convolution, the last with four times the channels, and a shortcut."""

    def __init__(self, layers: Layers, inputs: int, width: int, stride: int, shortcut: str):
        outputs = EXPANSION["bottleneck"] * width
        self.conv1 = layers.conv(inputs, width, 1)
        self.bn1 = layers.norm(width)
        self.relu1 = ReLU()
        self.conv2 = layers.conv(width, width, 3, stride)
        self.bn2 = layers.norm(width)
        self.relu2 = ReLU()
        self.conv3 = layers.conv(width, outputs, 1)
        self.bn3 = layers.norm(outputs)
        self.shortcut = make_shortcut(layers, shortcut, inputs, outputs, stride)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (N, H, W, inputs) to (N, ⌈H/stride⌉, ⌈W/stride⌉, 4·width)."""
        y = self.bn1(self.conv1(x), relu=self.relu1)
        y = self.bn2(self.conv2(y), relu=self.relu2)
        y = self.conv3(y)
        for layer in self.shortcut:
            x = layer(x)
        return self.bn3(y, residual=x, relu=relu)


BLOCKS = {"basic": ResBlock, "bottleneck": Bottleneck}


class ResNet(nnx.Module):
    """Stem, stages of residual blocks, global average pool, linear classifier; in train mode at first.

    Args:
      description: architecture, stem, width and number of classes.
      dtype: what convolutions compute in, float32, bfloat16 or float64.
      param_dtype: of parameters and batch statistics.
      rngs: draws the initial parameters.
      cpu_kernels: whether layers run in native code (flax_resnet/cpu_kernels).
    """

    def __init__(
        self,
        description: ModelDescription,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
        cpu_kernels: bool = False,
    ):
        layers = Layers(dtype, param_dtype, rngs, cpu_kernels)
        block, depths, _, shortcut = description.architecture
        stem = STEMS[description.stem]
        channels = description.width
        self.max_pool = stem.max_pool
        self.conv1 = layers.conv(3, channels, stem.kernel, stem.stride)
        self.bn1 = layers.norm(channels)
        self.relu = ReLU()
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, depth in enumerate(depths):
            width = description.width * 2**i
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(BLOCKS[block](layers, channels, width, stride, shortcut))
                channels = EXPANSION[block] * width
            setattr(self, self.stages[i], nnx.List(blocks))
        self.linear = layers.linear(channels, description.num_classes)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map standardised images (N, H, W, 3) to logits (N, classes)."""
        x = self.bn1(self.conv1(x), relu=self.relu)
        if self.max_pool:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in getattr(self, stage):
                x = block(x)
        x = jnp.mean(x, axis=(1, 2))
        return self.linear(x)
