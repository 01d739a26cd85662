"""PyTorch: every layer of torch_ref on its own, eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.speed.jobs import Job
from parity.speed.programs.program import Arrays
from parity.speed.programs.torch_steps import TorchProgram
from torch_ref.train_state import DTYPES


class SingleLayers(TorchProgram):
    """Every layer on its own, channels_last."""

    def __init__(self, job: Job):
        super().__init__(job)
        generator = torch.Generator().manual_seed(job.seed)
        dtype, _ = DTYPES[job.precision]

        def activation(channels: int, size: int) -> Tensor:
            drawn = torch.randn(job.batch_size, channels, size, size, generator=generator)
            return drawn.to(self.device, dtype, memory_format=torch.channels_last)

        for layer in job.layers:
            x, dy = activation(layer.inputs, layer.size), activation(layer.outputs, layer.output_size)
            if layer.kind == "convolution":
                shape = layer.outputs, layer.inputs, layer.kernel, layer.kernel
                weight = torch.randn(shape, generator=generator).to(self.device)
                functions = convolution(layer.stride, x, weight.to(memory_format=torch.channels_last), dy)
            else:
                functions = batch_norm(x, activation(layer.inputs, layer.size), dy, layer.then)
            for operation in layer.operations:
                self.tracks[layer.track(operation)] = self.repeated(functions[operation])

    def first(self) -> Arrays:
        """See Program."""
        for run in self.tracks.values():
            run(1)
        return {}

    def repeated(self, function: Callable[[], Any]) -> Callable[[int], None]:
        """A track that calls a function again and again."""

        def run(steps: int) -> None:
            for _ in range(steps):
                function()
            self.wait()

        return run


def convolution(stride: int, x: Tensor, weight: Tensor, dy: Tensor) -> dict[str, Callable[[], Any]]:
    """Operation → function. Autocast rounds the float32 weights once a step, in the forward pass."""
    padding = weight.shape[-1] // 2
    rounded = weight.to(x.dtype)

    def gradient(*wanted: bool) -> Any:
        return torch.ops.aten.convolution_backward(
            dy, x, rounded, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
        )

    return {
        "forward": lambda: F.conv2d(x, weight.to(x.dtype), stride=stride, padding=padding),
        "input gradient": lambda: gradient(True, False, False),
        "weight gradient": lambda: gradient(False, True, False),
    }


def batch_norm(x: Tensor, residual: Tensor, dy: Tensor, then: str) -> dict[str, Callable[[], Any]]:
    """Operation → function."""
    norm = nn.BatchNorm2d(x.shape[1], device=x.device)
    inputs = [x.requires_grad_(), *norm.parameters()]
    if then == "residual":
        inputs.append(residual.requires_grad_())

    def forward() -> Tensor:
        y = norm(x)
        if then == "residual":
            y = y + residual
        return F.relu(y) if then else y

    y = forward()
    return {"forward": forward, "backward": lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)}
