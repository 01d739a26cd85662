"""The layers of a network with their sizes, found by running it on arrays without content."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from parity.speed.jobs import ITEM_BYTES, Job, Layer
from parity.speed.programs.problem import Problem
from torch_ref.capture import Call, record_calls
from torch_ref.train_state import make_model

BLOCK_ENDS = {"basic": "bn2", "bottleneck": "bn3"}  # the batch norm before the sum


def layers(job: Job) -> tuple[Layer, ...]:
    """Convolutions and batch norms in the order of the network; those alike once, counted."""
    description = Problem(job).run.model
    block_end = BLOCK_ENDS[description.architecture.block]
    model = make_model(description, "f32", torch.device("meta"))
    found: dict[Layer, Layer] = {}
    side = description.image_size
    with record_calls(model) as calls:
        model(torch.empty(job.batch_size, 3, side, side, device="meta"))
    for call in calls:
        if isinstance(call.module, nn.Conv2d | nn.BatchNorm2d):
            layer = _layer(call, block_end)
            same = found.get(layer)
            found[layer] = dataclasses.replace(
                same or layer, name=same.name if same else call.path, count=same.count + 1 if same else 1
            )
    return tuple(found.values())


def traffic(job: Job) -> int:
    """Bytes of activations that a step has to move, where no layer leaves its results in a cache."""
    training = job.measure != "eval"
    elements = sum(layer.count * layer.traffic(job.batch_size, training=training) for layer in layers(job))
    return ITEM_BYTES[job.precision] * elements


def _layer(call: Call, block_end: str) -> Layer:
    """The sizes of a layer in a forward pass."""
    channels, size = map(int, call.input.shape[1:3])
    if isinstance(call.module, nn.Conv2d):
        kernel, stride = call.module.kernel_size[0], call.module.stride[0]
        outputs = call.module.out_channels
        return Layer("convolution", size, channels, outputs, kernel, stride, call.path == "conv1")
    then = "residual" if call.path.endswith(block_end) else "" if "shortcut" in call.path else "relu"
    return Layer("batch norm", size, channels, channels, then=then)
