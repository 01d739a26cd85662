"""JAX's settings, for the time of a call."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def float64(on: bool) -> AbstractContextManager[None]:
    """Return a context in which, in this thread, JAX has 64-bit numbers or replaces them by 32-bit ones.

    `jax.config.update("jax_enable_x64", …)` would change the dtypes of the whole program that calls this one.
    """
    return jax.enable_x64(on)
