"""Values of this package as JSON and arrays, by the type hints of their classes. Nothing is pickled.

Data classes and named tuples become objects, all other collections lists (a dict one of pairs), and arrays go
beside them. A network's arguments are trees of anybody's, so their collections are named.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.comparison.inputs import Arguments
from parity.comparison.mapping.sources import Gather
from recipe.system.errors import UserError
from recipe.system.terminal import shown

ARRAY = "$array"  # of an object that stands for an array: its name
PLAIN = bool | int | float | str | None


def encode(value: Any, put: Callable[[np.ndarray], str]) -> Any:
    """A value as JSON.

    Args:
      value: data classes, named tuples, collections, arrays, plain numbers and words. A function that is no
        `Gather` is left out.
      put: keeps an array, and gives its name.

    Raises:
      UserError: for arguments of a network that hold something else.
    """
    if isinstance(value, np.ndarray | np.generic):  # NumPy makes single numbers of arrays without axes
        return {ARRAY: put(np.asarray(value))}
    if isinstance(value, PLAIN):
        return value
    again = functools.partial(encode, put=put)
    if isinstance(value, Arguments):
        return [_named(value.args, put), _named(value.kwargs, put)]
    if dataclasses.is_dataclass(value):
        return {field.name: again(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: again(one) for name, one in value._asdict().items()}
    if isinstance(value, Mapping):
        return [[again(key), again(one)] for key, one in value.items()]
    if isinstance(value, frozenset):
        return [again(one) for one in sorted(value)]
    if isinstance(value, list | tuple):
        return [again(one) for one in value]
    if callable(value):
        return None
    raise TypeError(f"{type(value).__name__} can't be written")


def decode(hint: Any, tree: Any, get: Callable[[str], np.ndarray]) -> Any:
    """What `encode` was given.

    Args:
      hint: the value's type.
      tree: what `encode` gave.
      get: an array by its name.

    Raises:
      Exception: of many types, if the tree is not what `encode` gives for this type.
    """
    again = functools.partial(decode, get=get)
    if isinstance(tree, dict) and ARRAY in tree:
        return get(tree[ARRAY])
    if hint is np.ndarray or (isinstance(hint, type) and issubclass(hint, PLAIN) and not _is(tree, hint)):
        raise TypeError(f"{shown(tree)} is no {hint.__name__}")
    origin, of = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        rest = [one for one in of if one is not type(None)]
        return None if tree is None else again(rest[0], tree)
    if origin is collections.abc.Callable:
        return None if tree is None else again(Gather, tree)
    if hint is Arguments:
        args, kwargs = (_from_named(one, get) for one in tree)
        return Arguments(*args, **kwargs)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        hints = _hints(hint)
        return hint(**{name: again(hints[name], one) for name, one in tree.items()})
    if origin is dict:
        return {again(of[0], key): again(of[1], one) for key, one in tree}
    if origin is tuple:
        kinds = [of[0]] * len(tree) if of[-1] is Ellipsis else of
        return tuple(again(kind, one) for kind, one in zip(kinds, tree, strict=True))
    if origin in (list, frozenset):
        return origin(again(of[0], one) for one in tree)
    return tree


_hints = functools.cache(typing.get_type_hints)


def _is(value: Any, plain: type) -> bool:
    """Whether a value is of a plain type; JSON has one kind of numbers, but true and false are none."""
    if plain is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, plain) and (plain is bool or not isinstance(value, bool))


def _named(tree: Any, put: Callable[[np.ndarray], str]) -> Any:
    """A tree of a network's arguments."""
    if isinstance(tree, np.ndarray):
        return {ARRAY: put(tree)}
    if isinstance(tree, PLAIN):
        return {"plain": tree}
    if isinstance(tree, Mapping) and all(isinstance(key, str | int) for key in tree):
        return {"dict": [[key, _named(one, put)] for key, one in tree.items()]}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [_named(one, put) for one in tree]}
    raise UserError(
        f"the inputs hold a {type(tree).__name__}, which a folder can't: give arrays, numbers and words in "
        "lists, tuples and dicts, and turn them into more in torch_call= and flax_call="
    )


def _from_named(tree: dict[str, Any], get: Callable[[str], np.ndarray]) -> Any:
    ((kind, value),) = tree.items()
    if kind == ARRAY:
        return get(value)
    if kind == "plain":
        return value
    if kind == "dict":
        return {key: _from_named(one, get) for key, one in value}
    made = [_from_named(one, get) for one in value]
    return tuple(made) if kind == "tuple" else made
