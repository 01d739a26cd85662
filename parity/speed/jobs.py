"""What a process is asked to measure; sent to it through a pipe, so free of any framework."""

from __future__ import annotations

import dataclasses
from typing import Any

MEASURES = {
    "train": "train step",  # forward, backward, SGD, on one device-resident batch of floats
    "eval": "evaluation step",  # standardise device-resident uint8 images, forward
    "loop": "training loop",  # recipe.training.loop.Run over epochs: plan, crop, flip, step, sums, progress
}
PRECISIONS = ("f32", "bf16")
ITEM_BYTES = {"f32": 4, "bf16": 2}
COPY = 2**28  # bytes that are copied to measure the memory's speed


def title(arch: str, width: int, precision: str, batch_size: int) -> str:
    """What is measured, in a phrase; `width` is 0 where it is the architecture's own."""
    return f"{arch}{f' width {width}' if width else ''}, {precision}, batch {batch_size}"


@dataclasses.dataclass(frozen=True)
class Contender:
    """A framework with its settings: one of those that compute the same."""

    side: str  # torch | jax: the framework
    name: str
    layout: str = ""  # PyTorch: NCHW | channels_last
    compile_mode: str = ""  # PyTorch: mode of torch.compile; "" is eager
    config: tuple[tuple[str, Any], ...] = ()  # JAX: (config field, value) that differ from the default


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution, or a batch norm with what follows it. Equal if they are alike, whatever their names."""

    kind: str  # convolution | batch norm
    size: int  # pixels of a side of the input
    inputs: int  # channels
    outputs: int
    kernel: int = 0  # pixels of a side
    stride: int = 1
    stem: bool = False  # a convolution of images, which need no gradient
    then: str = ""  # what joins a batch norm: relu | residual (and a ReLU) | nothing
    name: str = dataclasses.field(default="", compare=False)  # of the first one
    count: int = dataclasses.field(default=1, compare=False)

    def __str__(self) -> str:
        if self.kind == "batch norm":
            joined = {"relu": " + ReLU", "residual": " + residual + ReLU", "": ""}[self.then]
            return f"batch norm{joined}, {self.outputs} at {self.size}"
        stride = f" /{self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}×{self.kernel}{stride}, {self.inputs}→{self.outputs} at {self.size}"

    @property
    def operations(self) -> tuple[str, ...]:
        """What a train step does with it."""
        if self.kind == "batch norm":
            return "forward", "backward"
        return (
            ("forward", "weight gradient") if self.stem else ("forward", "input gradient", "weight gradient")
        )

    def track(self, operation: str) -> str:
        """The name of an operation among all that are timed."""
        return f"{self.name} {operation}"

    @property
    def output_size(self) -> int:
        """Pixels of a side of the output."""
        return -(-self.size // self.stride)

    def flops(self, batch_size: int) -> int:
        """Multiplications and additions of one operation of a convolution, padding included."""
        return 2 * batch_size * self.output_size**2 * self.inputs * self.outputs * self.kernel**2

    def elements(self, operation: str, batch_size: int) -> int:
        """Elements of the activations that an operation reads or writes, each once."""
        x, y = batch_size * self.size**2 * self.inputs, batch_size * self.output_size**2 * self.outputs
        if self.kind == "convolution":
            return x + y
        if operation == "forward":  # reads x and the residual, writes y
            return (3 if self.then == "residual" else 2) * x
        # reads dy and x, and y for the ReLU's mask where a residual was added; writes dx and the residual's
        return (5 if self.then == "residual" else 3) * x

    def traffic(self, batch_size: int, *, training: bool) -> int:
        """Elements of the activations that a step has to move for one such layer.

        In training a batch norm reads its input for the statistics before it reads it again, and in the
        backward pass dy and x for their sums. A shortcut's batch norm is one launch with the sum that it
        joins: its result is neither written nor read.
        """
        operations = self.operations if training else ("forward",)
        moved = sum(self.elements(operation, batch_size) for operation in operations)
        if self.kind == "batch norm":
            x = batch_size * self.size**2 * self.inputs
            moved += 3 * x * training - 2 * x * (not self.then)
        return moved


@dataclasses.dataclass(frozen=True)
class Job:
    """A contender and its task."""

    contender: Contender
    measure: str  # a key of MEASURES
    arch: str
    width: int  # channels of the first stage; 0 is the architecture's own
    precision: str  # of PRECISIONS
    batch_size: int
    epoch_steps: int = 4  # steps of an epoch in the training loop
    seed: int = 0
    layers: tuple[Layer, ...] = ()  # to be timed on their own
    images: int = dataclasses.field(init=False)  # training images

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", self.epoch_steps * self.batch_size)
