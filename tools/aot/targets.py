"""Accelerators to compile for, none of which has to be there.

JAX_PLATFORMS has to be "cpu": else JAX's CUDA plugin looks for a GPU, and gives up without one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

import jax
from jax.experimental import topologies

from recipe.system.errors import UserError

H100 = Path(__file__).with_name("h100.txtpb")


class Target(NamedTuple):
    """Some devices of one kind, and how to compile for them."""

    name: str
    platform: str  # as JAX calls it: cuda | tpu
    devices: list[jax.Device]
    options: dict[str, str | bool]  # XLA's


def h100() -> Target:
    """One H100 (SXM, 80 GB).

    XLA normally times cuDNN's algorithms on the device when it compiles; without one it must not.

    Raises:
      UserError: if JAX's CUDA plugin is not installed.
    """
    if not (_has("jax_plugins") and _has("jax_plugins.xla_cuda13")):
        raise UserError("JAX's CUDA 13 plugin is not installed here; `make aot` uses an environment with it")
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=H100.read_text(encoding="utf-8"), topology="1x1x1"
    )
    return Target("H100", "cuda", topology.devices, {"xla_gpu_autotune_level": "0"})


def v5e(chips: int) -> Target:
    """Some of the chips of a TPU v5e slice of 2×2.

    Raises:
      UserError: if libtpu is not installed, or another process uses it.
    """
    if not _has("libtpu"):
        raise UserError("libtpu is not installed here; `make aot` uses an environment with it")
    try:
        devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices[:chips]
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"libtpu gives no topology: {error}") from error
    return Target(f"TPU v5e, {chips} chip{'s' * (chips > 1)}", "tpu", devices, {})


def _has(package: str) -> bool:
    """Whether a package is installed, whose parent is."""
    return importlib.util.find_spec(package) is not None
