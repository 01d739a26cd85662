"""Convolutions and batch norms in native code, for a CPU; see README.md in this folder."""

from __future__ import annotations

import jax

from flax_resnet.cpu_kernels.build import load


def choose(setting: str, precision: str) -> tuple[bool, str]:
    """Whether a network of `precision` uses the native kernels, and a line for the log that says why.

    Args:
      setting: config.cpu_kernels, "auto" (wherever they can be had) or "xla" (never).
      precision: config.precision.
    """
    if setting == "xla":
        return False, "XLA's (config.cpu_kernels=xla)"
    if jax.default_backend() != "cpu":
        return False, "XLA's, on an accelerator"
    if precision == "f64":
        return False, "XLA's, in float64"
    if jax.device_count() > 1:
        return False, "XLA's, which can split a batch over devices"
    why_not = load()
    return not why_not, f"XLA's: {why_not}" if why_not else "native"
