"""What is checked: a network with weights, and its inputs."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from parity.engines import FlaxNetwork, TorchNetwork
from recipe.architectures import ModelDescription
from recipe.data import Dataset
from recipe.state_dict import Arrays


@dataclasses.dataclass(frozen=True, eq=False)  # a case is itself, and a key of caches
class Case:
    """A network, its weights, and how thoroughly to look."""

    description: ModelDescription
    model: Arrays  # this project's state dict
    seed: int = 0  # draws inputs
    quick: bool = False  # one shape of input instead of several, fewer schedules and steps
    cpu_kernels: str = "auto"  # config.cpu_kernels of the Flax network
    data: Dataset | None = None  # real images for level 8; without it they are random

    @functools.lru_cache(maxsize=8)  # noqa: B019  a case lives as long as its process
    def torch(self, precision: str) -> TorchNetwork:
        """The reference in a precision."""
        return TorchNetwork(self.description, self.model, precision)

    @functools.lru_cache(maxsize=8)  # noqa: B019
    def flax(self, precision: str) -> FlaxNetwork:
        """The Flax network in a precision."""
        return FlaxNetwork(self.description, self.model, precision, self.cpu_kernels)

    def shapes(self, training: bool, precision: str) -> list[tuple[int, int]]:
        """(batch, size) of the inputs of layers: the network's own size (at seed 0), then odd ones.

        In bfloat16 the batch is one that native kernels for a matrix unit take (cpu_kernels/amx.h): more
        than a tile's 16 images, and no multiple of them.
        """
        size = min(self.description.image_size, 64)
        count = 17 if precision == "bf16" else 4
        own = (count + self.seed % 3, size + self.seed % 5)  # other seeds, other shapes
        if self.quick:
            return [own]
        if precision == "bf16":
            return [own, (count + 2, size // 2 - 5)]
        return [own, (3, size - 5)] if training else [own, (1, size + 8), (3, size - 5)]

    def images(self, count: int, size: int) -> np.ndarray:
        """Random standardised images (count, size, size, 3), float64 numbers that are exact in float32."""
        rng = np.random.default_rng([self.seed, count, size])
        return rng.normal(size=(count, size, size, 3)).astype(np.float32).astype(np.float64)

    def labels(self, count: int) -> np.ndarray:
        """Random labels (count,)."""
        return np.random.default_rng([self.seed, count]).integers(0, self.description.num_classes, count)
