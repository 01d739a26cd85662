"""The rows of the layer table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from flax_resnet.capture import record_calls
from flax_resnet.model import ResNet
from flax_resnet.runtime import start_backend
from recipe.architectures import ModelDescription
from recipe.output.layer_table import LayerRow

NAMES = {"Conv": "Conv2d", "BatchNorm": "BatchNorm2d"}  # as PyTorch calls them


def layer_rows(description: ModelDescription) -> list[LayerRow]:
    """One row per layer, in the order of execution. Shapes are traced; nothing is computed."""
    start_backend()
    rows: list[LayerRow] = []

    def forward(x: jax.Array) -> jax.Array:
        model = ResNet(description, rngs=nnx.Rngs(0))
        model.eval()
        with record_calls(model) as calls:
            logits = model(x)
        rows.extend(_row(call.module, call.output.shape[1:]) for call in calls)
        return logits

    size = description.image_size
    jax.eval_shape(forward, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    return rows


def _row(module: nnx.Module, shape: tuple[int, ...]) -> LayerRow:
    name = type(module).__name__
    own = [value for value in vars(module).values() if isinstance(value, nnx.Param)]
    return LayerRow(
        name=NAMES.get(name, name),
        output_shape=(*shape[2:], *shape[:2]),  # HWC → CHW
        params=sum(param[...].size for param in own),
    )
