"""What a network runs with: float64 or not, kept programs, and a line about both for the log."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import flax
import jax

from flax_resnet.cpu_kernels import choose
from recipe.system import backend

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
    backend.start(jax.devices)


def runtime(precision: str, cpu_kernels: str = "auto") -> str:
    """Library versions, device, and whose convolutions run there, for the log."""
    count, device = jax.device_count(), jax.devices()[0]
    _, kernels = choose(cpu_kernels, precision)
    where = device.platform if count == 1 else f"{count} × {device.platform}"
    versions = f"JAX {jax.__version__}, Flax {flax.__version__}"
    return f"{versions} on {where} ({device.device_kind}), kernels: {kernels}"
