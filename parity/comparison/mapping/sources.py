"""Where the values of a Flax tensor come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Source:
    """How one tensor of Flax is built from tensors of PyTorch."""

    names: tuple[str, ...]  # PyTorch's
    build: Callable[[Mapping[str, np.ndarray]], np.ndarray]  # {name: array} → array
    words: str  # for a person: "transposed", "as the converter says"
    code: str = ""  # as a Python expression in `t`, one array or several; "" where there is no short one
    moves: bool = True  # whether values are only moved, so that gradients go the same way

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The Flax tensor, from PyTorch's."""
        return self.build(tensors)


Sources = dict[str, Source]  # by the Flax tensor's path
