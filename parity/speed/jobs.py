"""What a process is asked to measure; sent to it through a pipe, so free of any framework."""

from __future__ import annotations

import dataclasses
from typing import Any

MEASURES = {
    "train": "train step",  # forward, backward, SGD, on one device-resident batch of floats
    "eval": "evaluation step",  # standardise device-resident uint8 images, forward
    "loop": "training loop",  # recipe.run.Run over epochs: plan, crop, flip, step, sums, progress
}
PRECISIONS = ("f32", "bf16")


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to compute the same."""

    side: str  # a key of worker.PROGRAMS
    name: str
    layout: str = ""  # PyTorch: NCHW | channels_last
    compile_mode: str = ""  # PyTorch: mode of torch.compile; "" is eager
    config: tuple[tuple[str, Any], ...] = ()  # JAX: (config field, value) that differ from the default


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
    images: int = dataclasses.field(init=False)  # training images

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", self.epoch_steps * self.batch_size)
