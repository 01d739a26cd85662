"""The rows of the layer table."""

from __future__ import annotations

import torch

from recipe.architectures import ModelDescription
from recipe.output.layer_table import LayerRow
from torch_ref.capture import record_calls
from torch_ref.model import ResNet


def layer_rows(description: ModelDescription) -> list[LayerRow]:
    """One row per layer, in the order of execution. Shapes are traced; nothing is computed."""
    size = description.image_size
    with torch.device("meta"):
        model = ResNet(description).eval()
        with record_calls(model) as calls:
            model(torch.empty(1, 3, size, size))
    return [
        LayerRow(
            name=type(call.module).__name__,
            output_shape=tuple(call.output.shape[1:]),
            params=sum(param.numel() for param in call.module.parameters(recurse=False)),
        )
        for call in calls
    ]
