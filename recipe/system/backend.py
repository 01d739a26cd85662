"""The first question to JAX, which devices there are: here, so that its refusal is one line everywhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from recipe.system import xla_flags
from recipe.system.errors import UserError, first_line

_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")


def start(devices: Callable[[], Any]) -> None:
    """Let JAX look for its devices, as the first thing that is asked of it.

    Args:
      devices: jax.devices.

    Raises:
      UserError: if the environment asks for devices that are not there, or XLA does not take XLA_FLAGS.
    """
    xla_flags.check()
    try:
        devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that what it was asked for is there
        asked = next((f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)), "")
        if not asked:
            raise UserError(f"JAX finds no device: {first_line(error)}") from error
        said = str(error).partition(" (set JAX_PLATFORMS")[0].splitlines()
        reason = said[0].rstrip(".") if said else "there is no such device, or no plugin of JAX for it"
        raise UserError(
            f"JAX has no backend for {asked}: {reason}; unset {asked.partition('=')[0]}, or install what it "
            "names"
        ) from error
