"""What passes between the modules of anybody's Flax network: kept, and replaced where there is a pin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import get_opaque_trace_state

from parity.comparison.recording import Call, Dropout, Slot

Caller = Callable[..., Any]


@jax.custom_vjp
def _pin(x: Any, value: Any, grad: Any, probe: Any, on: Any, backwards: Any) -> Any:
    """`value` instead of `x` where `on`; the gradient that arrives is `probe`'s, and `grad` goes on where
    `backwards`."""
    return jnp.where(on, value, x)


def _pin_forward(x: Any, value: Any, grad: Any, probe: Any, on: Any, backwards: Any) -> Any:
    return jnp.where(on, value, x), (grad, backwards)


def _pin_backward(kept: Any, arriving: Any) -> Any:
    grad, on = kept
    zeros = jnp.zeros_like(arriving)
    return jnp.where(on, grad, arriving), zeros, zeros, arriving, None, None


_pin.defvjp(_pin_forward, _pin_backward)


class Taps:
    """What happens at every module's call inside a trace.

    Args:
      keep: paths of the modules to record, None for all.
      pins: slot → (value, gradient, probe, whether each is replaced); slots without one are recorded only.
      fused: whether a layer may do what is behind it in one go.
    """

    def __init__(
        self,
        keep: frozenset[str] | None,
        pins: Mapping[Slot, tuple[Any, Any, Any, Any, Any]],
        fused: bool = False,
    ):
        self._keep, self._pins, self.fused = keep, pins, fused
        self.values: dict[Slot, Any] = {}
        self.pinned: list[Any] = []
        self.order: list[Call] = []
        self.kinds: dict[str, str] = {}
        self.dropouts: list[Dropout] = []
        self.opaque: dict[str, str] = {}
        self._turns: dict[str, int] = {}
        self._running: list[Call] = []
        self._level = get_opaque_trace_state(convention="flax")

    @property
    def where(self) -> str:
        """The module that is running."""
        return self._running[-1][0] if self._running else ""

    def call(self, path: str | None, kind: str, fn: Caller, args: Any, kwargs: Any, atoms: Any) -> Any:
        """Run a module's method between its taps.

        Args:
          path: of the module; None if it is not known, since a transformation made it anew.
          kind: its class name.
          fn: the method.
          args: and
          kwargs: its arguments.
          atoms: classes that are leaves of the arguments, though they are trees of arrays.
        """
        if get_opaque_trace_state(convention="flax") != self._level or path is None:
            inside = f" in {self.where}" if self.where else ""
            self.opaque.setdefault(f"{path or kind}{inside}", "these run inside jit, remat, scan or vmap")
            return fn(*args, **kwargs)
        again = bool(self._running) and self._running[-1][0] == path  # a method that calls another
        if not path or again or (self._keep is not None and path not in self._keep):
            return fn(*args, **kwargs)
        call = path, self._turns.get(path, -1) + 1
        self._turns[path] = call[1]
        self.order.append(call)
        self.kinds[path] = kind
        flat, spec = jax.tree.flatten((args, kwargs), is_leaf=lambda x: isinstance(x, atoms))
        once: dict[int, Any] = {}  # an array that is given three times is one input
        for number, x in enumerate(flat):
            if id(x) not in once:
                once[id(x)] = self._tap(x, Slot(*call, "in", number))
        args, kwargs = jax.tree.unflatten(spec, [once[id(x)] for x in flat])
        self._running.append(call)
        returned = fn(*args, **kwargs)
        self._running.pop()
        flat, spec = jax.tree.flatten(returned, is_leaf=lambda x: isinstance(x, atoms))
        flat = [self._tap(x, Slot(*call, "out", number)) for number, x in enumerate(flat)]
        return jax.tree.unflatten(spec, flat)

    def _tap(self, x: Any, slot: Slot) -> Any:
        if not is_float_array(x):
            return x
        x = self.values[slot] = jnp.asarray(x)
        if slot not in self._pins:
            return x
        value, grad, probe, on, backwards = self._pins[slot]
        pinned = _pin(x, value.astype(x.dtype), grad.astype(x.dtype), probe.astype(x.dtype), on, backwards)
        self.pinned.append(pinned)
        return pinned


def is_float_array(x: Any) -> bool:
    """Whether it is an array of floats, of JAX (also while it is traced) or NumPy."""
    return isinstance(x, jax.Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating)
