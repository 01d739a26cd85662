"""A network's arguments: trees of NumPy arrays, positional and by keyword."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from recipe.system.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Positional and keyword arguments of a network, each a tree of arrays: `Arguments(x, mask=mask)`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any):
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)

    @classmethod
    def of(cls, inputs: Any) -> Arguments:
        """From `Arguments`, a list or tuple of positional ones, a dict of keyword ones, or one array."""
        form = form_of(inputs)
        if form == "arguments":
            return inputs
        if form == "dict":
            return cls(**inputs)
        return cls(*inputs) if form == "list" else cls(inputs)

    @property
    def leaves(self) -> list[Any]:
        """All leaves in a fixed order."""
        return list(_leaves((self.args, self.kwargs)))

    def replaced(self, leaves: list[Any]) -> Arguments:
        """The same trees with other leaves, in the order of `leaves`."""
        left = iter(leaves)
        args, kwargs = _map(lambda _: next(left), (self.args, self.kwargs))
        return Arguments(*args, **kwargs)

    def map(self, fn: Callable[[Any], Any]) -> Arguments:
        """The same trees with every leaf changed."""
        return self.replaced([fn(leaf) for leaf in self.leaves])


def as_numpy(arguments: Arguments, who: str) -> Arguments:
    """Arrays of any framework, and plain numbers that are arrays' leaves, as NumPy; floats that float32
    holds.

    Anything else (None, strings, plain Python numbers and flags) is passed on as it is.

    Raises:
      UserError: if a float array holds a value that is not finite.
    """

    def convert(leaf: Any) -> Any:
        if isinstance(leaf, bool | int | float | str | bytes) or leaf is None:
            return leaf
        if hasattr(leaf, "detach"):
            leaf = leaf.detach().cpu().numpy()
        if not hasattr(leaf, "__array__"):
            return leaf
        array = np.asarray(leaf)
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            return array
        array = array.astype(np.float32).astype(np.float64)
        if not np.isfinite(array).all():
            raise UserError(f"{who} has values that are not finite, and would prove nothing: use others")
        return array

    return arguments.map(convert)


def form_of(inputs: Any) -> str:
    """How inputs are given: "arguments", "dict", "list", or "one" for a single one."""
    if isinstance(inputs, Arguments):
        return "arguments"
    if isinstance(inputs, Mapping):
        return "dict"
    return "list" if isinstance(inputs, list | tuple) and not hasattr(inputs, "_fields") else "one"


def in_form(arguments: Arguments, form: str) -> Any:
    """Arguments as inputs of a form."""
    forms = {"arguments": arguments, "dict": arguments.kwargs, "list": list(arguments.args)}
    return forms[form] if form in forms else arguments.args[0]


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a NumPy array of floats."""
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        for key in tree:
            yield from _leaves(tree[key])
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _leaves(value)
    else:
        yield tree


def _map(fn: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _map(fn, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        values = [_map(fn, value) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return fn(tree)
