"""Every layer's input and output, in the order of PyTorch's execution."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
from flax import nnx

from flax_resnet.nn.batch_norm import BatchNorm


class Call(NamedTuple):
    """One layer's turn in a forward pass."""

    path: str  # "layer1.0.conv1"
    module: nnx.Module
    input: jax.Array
    output: jax.Array


@contextlib.contextmanager
def record_calls(model: nnx.Module) -> Iterator[list[Call]]:
    """Record the calls of all modules inside `model`, in the order in which PyTorch finishes them.

    A batch norm's output is recorded without the residual and the ReLU that it is given, and a ReLU that is a
    module as a call of its own, whose output is the result of all three.

    NNX has no forward hooks, so the modules' classes are changed while the context is open: don't run
    other models of these classes in it. Works inside a trace as well.
    """
    paths = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(model)}
    originals: dict[Any, Callable[..., jax.Array]] = {
        type(module): type(module).__call__
        for path, module in nnx.iter_modules(model)
        if path and callable(module)
    }
    calls: list[Call] = []
    try:
        for cls, original in originals.items():
            record = _record_norm if issubclass(cls, BatchNorm) else _record
            cls.__call__ = record(original, paths, calls)
        yield calls
    finally:
        for cls, original in originals.items():
            cls.__call__ = original


def _record(
    original: Callable[..., jax.Array], paths: dict[int, str], calls: list[Call]
) -> Callable[..., jax.Array]:
    def recorded(self: nnx.Module, x: jax.Array) -> jax.Array:
        output = original(self, x)
        calls.append(Call(paths[id(self)], self, x, output))
        return output

    return recorded


def _record_norm(
    original: Callable[..., jax.Array], paths: dict[int, str], calls: list[Call]
) -> Callable[..., jax.Array]:
    def recorded(
        self: BatchNorm,
        x: jax.Array,
        *,
        residual: jax.Array | None = None,
        relu: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        plain = original(nnx.clone(self), x)  # the running statistics that move are the copy's
        end = len(calls)
        output = original(self, x, residual=residual, relu=relu)
        del calls[end:]  # XLA's batch norm calls the ReLU, the native one does not
        found = [Call(paths[id(self)], self, x, plain)]
        if isinstance(relu, nnx.Module):
            found.append(Call(paths[id(relu)], relu, plain if residual is None else plain + residual, output))
        # PyTorch normalises at once; here a block's shortcut, which the same call adds, has run by then
        after = [i + 1 for i, call in enumerate(calls) if x is call.output or x is call.input]
        position = after[-1] if after else end
        calls[position:position] = found
        return output

    return recorded
