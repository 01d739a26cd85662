"""Every layer's input and output."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from flax import nnx


class Call(NamedTuple):
    """One layer's turn in a forward pass."""

    path: str  # "layer1.0.conv1"
    module: nnx.Module
    input: jax.Array
    output: jax.Array


@contextlib.contextmanager
def record_calls(model: nnx.Module) -> Iterator[list[Call]]:
    """Record the calls of all modules inside `model`; once the context is closed, in the order of definition.

    That is PyTorch's order of execution. (Here, a batch norm that is given its residual runs behind the
    shortcut.) Such a batch norm is recorded with its own output, without residual and ReLU, and the ReLU that
    it is given with the result of their common pass.

    NNX has no forward hooks, so the modules' classes are wrapped while the context is open: don't run
    other models of these classes in it. Works inside a trace as well.
    """
    order = {id(module): path for path, module in in_order_of_definition(model)}
    places = {module: place for place, module in enumerate(order)}
    calls: list[Call] = []

    def wrap(original: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def recorded(self: nnx.Module, x: jax.Array, **joined: Any) -> jax.Array:
            plain = original(self, x) if not joined else _without_statistics(original, self, x)
            calls.append(Call(order[id(self)], self, x, plain))
            return _joined(original, self, x, plain, joined) if joined else plain

        return recorded

    def _joined(
        original: Callable[..., jax.Array], norm: nnx.Module, x: jax.Array, plain: jax.Array, joined: Any
    ) -> jax.Array:
        before = len(calls)
        output = original(norm, x, **joined)
        relu, residual = joined.get("relu"), joined.get("residual")
        if isinstance(relu, nnx.Module) and len(calls) == before:  # native kernels did not call it
            given = plain if residual is None else plain + residual
            calls.append(Call(order[id(relu)], relu, given, output))
        return output

    classes = {type(module) for path, module in nnx.iter_modules(model) if path and callable(module)}
    originals = {cls: cls.__call__ for cls in classes}
    try:
        for cls, original in originals.items():
            cls.__call__ = wrap(original)  # type: ignore[method-assign]
        yield calls
    finally:
        for cls, original in originals.items():
            cls.__call__ = original  # type: ignore[method-assign]
        calls.sort(key=lambda call: places[id(call.module)])  # a module's own calls keep their order


def in_order_of_definition(module: nnx.Module, path: str = "") -> Iterator[tuple[str, nnx.Module]]:
    """Yield (path, module) of a module's parts, as its constructor made them, and behind them of itself."""
    parts = enumerate(module) if isinstance(module, nnx.List) else vars(module).items()
    for name, part in parts:
        if isinstance(part, nnx.Module):
            yield from in_order_of_definition(part, f"{path}.{name}" if path else str(name))
    yield path, module


def _without_statistics(original: Callable[..., jax.Array], module: nnx.Module, x: jax.Array) -> jax.Array:
    """Call a module and put its statistics back."""
    statistics = [(stat, stat[...]) for stat in vars(module).values() if isinstance(stat, nnx.BatchStat)]
    output = original(module, x)
    for stat, value in statistics:
        stat[...] = value
    return output
