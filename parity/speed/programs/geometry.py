"""The layers of a network with their sizes, found by running it on arrays without content."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from parity.speed.jobs import Job, Layer
from parity.speed.programs.problem import Problem
from torch_ref.train_state import make_model

BLOCK_ENDS = {"basic": "bn2", "bottleneck": "bn3"}  # the batch norm before the sum


def layers(job: Job) -> tuple[Layer, ...]:
    """Convolutions and batch norms in the order of the network; those alike once, counted."""
    description = Problem(job).run.model
    block_end = BLOCK_ENDS[description.architecture.block]
    model = make_model(description, "f32", torch.device("meta"))
    found: dict[Layer, Layer] = {}

    def note(name: str, layer: Layer) -> None:
        same = found.get(layer)
        found[layer] = (
            dataclasses.replace(same, count=same.count + 1)
            if same
            else dataclasses.replace(layer, name=name, count=1)
        )

    def hook(name: str) -> Any:
        def see(module: Any, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
            channels, size = map(int, inputs[0].shape[1:3])
            if isinstance(module, nn.Conv2d):
                kernel, stride = module.kernel_size[0], module.stride[0]
                layer = Layer(
                    "convolution", size, channels, module.out_channels, kernel, stride, name == "conv1"
                )
            else:
                then = "residual" if name.endswith(block_end) else "" if "shortcut" in name else "relu"
                layer = Layer("batch norm", size, channels, channels, then=then)
            note(name, layer)

        return see

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(hook(name))
    side = description.image_size
    model(torch.empty(job.batch_size, 3, side, side, device="meta"))
    return tuple(found.values())
