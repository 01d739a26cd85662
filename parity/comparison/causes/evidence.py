"""What is known at a place that differs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from parity.cause import MATCHES, Cause, is_close
from parity.comparison.sides.torch_tape import Piece

T = TypeVar("T")

Alternative = tuple[str, str, Any]  # family, words, a function without arguments: what it would give


@dataclasses.dataclass
class Evidence:
    """Values of one place in float64, all in PyTorch's layout.

    Attributes:
      module: PyTorch's module, where the place is one's result.
      args: with which it was called,
      kwargs: and by keyword.
      theirs: PyTorch's value.
      ours: Flax's.
      elsewhere: names and values that passed before, the last first, and then of those that pass later.
      training: the mode.
      precision: of the run that differs.
      piece: what PyTorch did since the values before it.
      kinds: class names of modules by path.
    """

    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    theirs: np.ndarray
    ours: np.ndarray
    elsewhere: list[tuple[str, np.ndarray]]
    training: bool
    precision: str = "f64"
    piece: Piece | None = None
    kinds: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def match(self) -> float:
        """How close a mistake's numbers have to be, of the largest element."""
        return MATCHES[self.precision]

    @property
    def x(self) -> Tensor:
        """The module's first argument."""
        leaves, _ = _pytree.tree_flatten((self.args, self.kwargs))
        return next(leaf for leaf in leaves if isinstance(leaf, Tensor))

    def changed(self, change: Any) -> Callable[[], np.ndarray]:
        """What a copy of the module gives after a change, a function that is given the copy."""

        def run() -> np.ndarray:
            assert self.module is not None
            twin = copy.deepcopy(self.module).train(self.training)
            with torch.no_grad():
                change(twin)
                return first_like(twin(*self.args, **self.kwargs), self.theirs)

        return run

    def first(self, alternatives: Iterator[Alternative]) -> Cause | None:
        """The first mistake that gives Flax's value."""
        with torch.no_grad():
            for family, words, make in alternatives:
                try:
                    value = make()
                except Exception:  # a mistake that can't be made here, whatever a stranger's module says
                    continue
                value = to_array(value)
                if is_close(self.theirs, value, self.match):
                    continue  # it explains nothing
                if is_close(self.ours, value, self.match):
                    return Cause(family, words)
        return None


def as_far_as_it_goes(found: Iterator[T]) -> Iterator[T]:
    """What an iterator gives up to its first error: a kind of mistake may meet what it does not know.

    The kinds behind it are tried all the same.
    """
    try:
        yield from found
    except Exception:  # whatever a stranger's module or operation says
        return


def first_like(returned: Any, like: np.ndarray) -> np.ndarray:
    """The first float array of a result that has a shape."""
    leaves, _ = _pytree.tree_flatten(returned)
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point and tuple(leaf.shape) == like.shape:
            return to_array(leaf)
    raise ValueError("no such result")


def to_array(value: Any) -> np.ndarray:
    """A tensor or array as float64 in NumPy."""
    if isinstance(value, Tensor):
        value = value.detach().numpy()
    return np.asarray(value, np.float64)
