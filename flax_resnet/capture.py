"""Every layer's input and output, in the order of execution."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx


class Call(NamedTuple):
    """One layer's turn in a forward pass."""

    path: str  # "layer1.0.conv1"
    module: nnx.Module
    input: jax.Array
    output: jax.Array


@contextlib.contextmanager
def record_calls(model: nnx.Module) -> Iterator[list[Call]]:
    """Record the calls of all modules inside `model`, in the order in which they finish.

    NNX has no forward hooks, so the modules' classes are wrapped while the context is open: don't run
    other models of these classes in it. Works inside a trace as well.
    """
    paths = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(model)}
    classes = {type(module) for path, module in nnx.iter_modules(model) if path and callable(module)}
    calls: list[Call] = []

    def wrap(original: Any) -> Any:
        def recorded(self: nnx.Module, x: jax.Array) -> jax.Array:
            output = original(self, x)
            calls.append(Call(paths[id(self)], self, jnp.asarray(x), jnp.asarray(output)))
            return output

        return recorded

    with contextlib.ExitStack() as stack:
        for cls in classes:
            stack.enter_context(mock.patch.object(cls, "__call__", wrap(cls.__call__)))
        yield calls
