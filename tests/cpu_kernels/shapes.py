"""Every shape of a convolution and of a batch norm in every architecture."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from flax_resnet.capture import record_calls
from flax_resnet.model import ResNet
from flax_resnet.nn.batch_norm import BatchNorm
from recipe.architectures import ARCHITECTURES, STEMS, ModelDescription


def of(arch: str, stem: str, size: int) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """{(side, inputs, outputs, kernel, stride)} and {(side, channels)} of a network for images of `size`."""
    description = ModelDescription(
        arch=arch, stem=stem, width=ARCHITECTURES[arch].width, class_names=("a", "b"), mean=(0.5,) * 3,
        std=(0.25,) * 3, image_size=size, dataset="digits",
    )  # fmt: skip
    convs, norms = set(), set()

    def look(images: jax.Array) -> None:
        model = ResNet(description, rngs=nnx.Rngs(0))
        with record_calls(model) as calls:
            model(images)
        for call in calls:
            side, inputs = call.input.shape[-2:]
            if isinstance(call.module, nnx.Conv):
                outputs = call.output.shape[-1]
                kernel, stride = call.module.kernel_size[0], call.module.strides
                convs.add((side, inputs, outputs, kernel, stride if isinstance(stride, int) else stride[0]))
            elif isinstance(call.module, BatchNorm):
                norms.add((side, inputs))

    nnx.eval_shape(look, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
    return convs, norms


def everything() -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The shapes of all architectures and stems, for images of 32 and of 19 pixels (odd all the way)."""
    convs: set[tuple[int, ...]] = set()
    norms: set[tuple[int, ...]] = set()
    for arch in ("resnet18", "resnet50", "resnet20"):  # the deeper ones repeat their shapes
        for stem in STEMS:
            for size in (32, 19):
                more_convs, more_norms = of(arch, stem, size)
                convs |= more_convs
                norms |= more_norms
    return sorted(convs), sorted(norms)
