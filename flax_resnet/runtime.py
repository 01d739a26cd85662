"""What a network runs with: float64 or not, kept programs, and a line about both for the log."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import flax
import jax

from flax_resnet.cpu_kernels import choose
from recipe.system import xla_flags
from recipe.system.errors import UserError, first_line

P = ParamSpec("P")
R = TypeVar("R")


class HasPrecision(Protocol):
    """An object whose arrays are of one precision."""

    precision: str  # bf16 | f32 | f64


Self = TypeVar("Self", bound=HasPrecision)


def float64(on: bool) -> AbstractContextManager[Any]:
    """Let JAX make float64 arrays, or not, in this thread and while the context is open.

    The process's own setting, which is the caller's, stays as it is.
    """
    return jax.enable_x64(on)


def in_own_precision(method: Callable[Concatenate[Self, P], R]) -> Callable[Concatenate[Self, P], R]:
    """Run a method with float64 on if its object's precision is f64, and off if not."""

    @functools.wraps(method)
    def run(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with float64(self.precision == "f64"):
            return method(self, *args, **kwargs)

    return run


def start_backend() -> None:
    """Let JAX look for its devices, as the first thing that is asked of it.

    Raises:
      UserError: if the environment asks for devices that are not there, or XLA does not take XLA_FLAGS.
    """
    xla_flags.check()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that what it was asked for is there
        variables = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
        asked = next((f"{name}={os.environ[name]}" for name in variables if os.environ.get(name)), "")
        if not asked:
            raise UserError(f"JAX finds no device: {first_line(error)}") from error
        said = str(error).partition(" (set JAX_PLATFORMS")[0].splitlines()
        reason = said[0].rstrip(".") if said else "there is no such device, or no plugin of JAX for it"
        raise UserError(
            f"JAX has no backend for {asked}: {reason}; unset {asked.partition('=')[0]}, or install what it "
            "names"
        ) from error


def runtime(precision: str, cpu_kernels: str = "auto") -> str:
    """Library versions, device, and whose convolutions run there, for the log."""
    count, device = jax.device_count(), jax.devices()[0]
    _, kernels = choose(cpu_kernels, precision)
    where = device.platform if count == 1 else f"{count} × {device.platform}"
    versions = f"JAX {jax.__version__}, Flax {flax.__version__}"
    return f"{versions} on {where} ({device.device_kind}), kernels: {kernels}"
