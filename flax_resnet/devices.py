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

from recipe.processes.world import check_split


class DataMesh:
    """Where arrays live on some devices; on those of all processes, when none are given."""

    def __init__(self, devices: Sequence[jax.Device] | None = None):
        devices = jax.devices() if devices is None else devices
        mesh = Mesh(np.array(devices), ("data",))
        self.size = len(devices)
        self._is_local = all(device.process_index == jax.process_index() for device in devices)
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

    def put(self, tree: Any, where: Any) -> Any:
        """Put arrays on devices; every process gives the same ones.

        Args:
          tree: arrays; NumPy's where there are several processes.
          where: a placement for all of them, or a tree of placements.
        """
        if self._is_local:
            return jax.device_put(tree, where)
        # device_put would first compare each array among all processes
        if isinstance(where, NamedSharding):
            return jax.tree.map(lambda leaf: _own_part(leaf, where), tree)
        return jax.tree.map(_own_part, tree, where)

    def check(self, batch_size: int) -> None:
        """Raise a `UserError` if a batch can't be split evenly."""
        check_split(batch_size, self.size, "devices")

    def round_up(self, batch_size: int) -> int:
        """The smallest batch size of at least `batch_size` that can be split evenly."""
        return -(-batch_size // self.size) * self.size


def _own_part(leaf: Any, where: Any) -> jax.Array:
    """An array of all processes, of which this one holds what lies on its own devices."""
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])
