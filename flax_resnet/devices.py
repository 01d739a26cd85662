"""The data mesh: every device takes an equal share of each batch.

Every device holds all of the state and the dataset. Arrays keep their global meaning, so batch statistics,
loss and gradients are those of the full batch, and XLA adds the all-reduces that this takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.layout import Format, Layout  # no other public place, up to JAX 0.12
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recipe.system.errors import UserError


class DataMesh:
    """Where arrays live on some devices; on all that JAX has, of every process, when none are given."""

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        devices = jax.devices() if devices is None else devices
        mesh = Mesh(np.array(devices), ("data",))
        self.size = len(devices)
        self._is_gpu = devices[0].platform in ("gpu", "cuda")
        self.replicated = NamedSharding(mesh, PartitionSpec())  # state, dataset: on every device
        self.batch = NamedSharding(mesh, PartitionSpec("data"))  # (batch, …), split
        self.plan = NamedSharding(mesh, PartitionSpec(None, "data"))  # (steps, batch), each step split

    def state(self, tree: Any) -> Any:
        """Where the leaves of a state live: on every device; on a GPU, kernels in the order OHWI.

        That is the order that cuDNN wants. From HWIO, every step would transpose all kernels, and could not
        update them in place (docs/accelerators.md).
        """
        ohwi = Format(Layout((3, 0, 1, 2)), self.replicated)
        return jax.tree.map(lambda leaf: ohwi if self._is_gpu and leaf.ndim == 4 else self.replicated, tree)

    def check(self, batch_size: int) -> None:
        """Raise a `UserError` if a batch can't be split evenly."""
        if batch_size % self.size:
            raise UserError(
                f"config.batch_size={batch_size} can't be split evenly over {self.size} devices; "
                f"choose a multiple of {self.size}"
            )

    def round_up(self, batch_size: int) -> int:
        """The smallest batch size of at least `batch_size` that can be split evenly."""
        return -(-batch_size // self.size) * self.size
