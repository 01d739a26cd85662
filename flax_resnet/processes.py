"""Several processes as one run: `jax.distributed`, and what JAX's processes tell each other.

How a batch is split is said in devices.py: arrays keep their global meaning, and XLA adds the collectives.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from flax_resnet.runtime import start_backend
from recipe.processes import native_errors
from recipe.processes.launch import AUTO, Launch
from recipe.processes.world import World
from recipe.system.errors import UserError, first_line

CONNECT_SECONDS = 60  # for all processes to find process 0
GONE_SECONDS = 100  # JAX's own way to end processes, behind that of recipe.processes.watch


class Store:
    """The key-value store of JAX's coordination service; see recipe.processes.world.Store."""

    def __init__(self) -> None:
        from jax._src import (
            distributed,
        )  # the client has no public name; orbax and Flax take it from there, too

        self._client: Any = distributed.global_state.client

    def set(self, key: str, value: str) -> None:
        """Set or overwrite a value."""
        self._client.key_value_set(key, value, allow_overwrite=True)

    def get(self, key: str) -> str | None:
        """The value, or None where nobody has set it yet."""
        try:
            return str(self._client.key_value_try_get(key))
        except Exception as error:  # whose class is XLA's
            if "NOT_FOUND" in str(error):
                return None
            raise


def join(launch: Launch) -> World:
    """Become one of a run's processes. It comes before anything else that asks JAX for its devices.

    Raises:
      UserError: if process 0 can't be reached within a minute, or JAX does not know the cluster.
    """
    native_errors.replace_by_one_line()
    try:
        jax.distributed.initialize(
            None if launch.coordinator == AUTO else launch.coordinator or None,
            launch.processes,
            launch.process_id,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=GONE_SECONDS,
        )
    except Exception as error:  # of many types
        where = launch.coordinator or "the cluster's process 0"
        raise UserError(
            f"can't join the other processes through {where} within {CONNECT_SECONDS} seconds: "
            f"{first_line(error)}; start all of them, with the same --coordinator"
        ) from error
    start_backend()
    return World(jax.process_index(), jax.process_count(), Store())


def from_process_0(tree: Any) -> Any:
    """The arrays of process 0, bit for bit, as NumPy arrays; all processes call it with like trees."""
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.ascontiguousarray(leaf) for leaf in leaves]
    # as integers, since what is added to them is 0, and −0.0 + 0 is +0.0
    bits = multihost_utils.broadcast_one_to_all([array.reshape(-1).view(np.uint32) for array in arrays])
    return jax.tree.unflatten(
        structure,
        [np.asarray(b).view(a.dtype).reshape(a.shape) for b, a in zip(bits, arrays, strict=True)],
    )
