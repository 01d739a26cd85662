"""Where the values of a Flax tensor come from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """How one tensor of Flax is built from tensors of PyTorch."""

    names: tuple[str, ...]  # PyTorch's
    build: Callable[
        [Mapping[str, np.ndarray]], np.ndarray
    ]  # {name: array} → array; of a sum its first part's
    words: str  # for a person: "transposed", "as the converter says"
    code: str = ""  # as a Python expression in `t`, one array or several; "" where there is no short one
    moves: bool = True  # whether values are only moved, so that gradients go the same way
    parts: tuple[Source, ...] = ()  # of a sum: each part only moves, and gets the sum's gradient

    @property
    def learns(self) -> bool:
        """Whether gradients of PyTorch's tensors say what Flax's has to be."""
        return self.moves or bool(self.parts)

    def gradients(self, grads: Mapping[str, np.ndarray], like: np.ndarray) -> list[tuple[Source, np.ndarray]]:
        """The parts, or the whole, and what PyTorch's gradients say there of the Flax tensor's.

        Args:
          grads: of PyTorch's parameters; a buffer has none.
          like: an array of the Flax tensor's shape.
        """
        return [
            (one, one(grads) if all(n in grads for n in one.names) else np.zeros_like(like))
            for one in self.parts or (self,)
        ]

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The Flax tensor, from PyTorch's."""
        if self.parts:
            return np.sum([part(tensors) for part in self.parts], axis=0)
        return self.build(tensors)


@dataclasses.dataclass(frozen=True)
class Gather:
    """A `build` that only moves numbers.

    Attributes:
      names: PyTorch's tensors.
      index: where in them, one behind the other, Flax's numbers are.
    """

    names: tuple[str, ...]
    index: np.ndarray

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The Flax tensor, from PyTorch's."""
        if len(self.names) == 1:
            return np.ravel(tensors[self.names[0]])[self.index]
        return np.concatenate([np.ravel(tensors[n]) for n in self.names])[self.index]


def as_gather(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> Source:
    """The same source as a `Gather`, if it moves; or its parts so.

    Args:
      source: of any kind.
      shapes: of PyTorch's tensors.
    """
    if source.parts:
        parts = tuple(as_gather(part, shapes) for part in source.parts)
        return dataclasses.replace(source, build=parts[0].build, parts=parts)
    if not source.moves or isinstance(source.build, Gather):
        return source
    numbers, start = {}, 0
    for name in source.names:
        size = math.prod(shapes[name])
        numbers[name] = np.arange(start, start + size).reshape(shapes[name])
        start += size
    index = source(numbers)
    small = index.astype(np.int32) if start < 2**31 else index
    return dataclasses.replace(source, build=Gather(source.names, small))


Sources = dict[str, Source]  # by the Flax tensor's path
