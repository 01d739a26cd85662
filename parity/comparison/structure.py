"""What a PyTorch network consists of, as far as a Flax network can be compared with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.comparison.recording import Call


@dataclasses.dataclass(frozen=True)
class Structure:
    """Names, shapes and modules of a PyTorch network.

    Attributes:
      shapes: of all float tensors by their (first) names.
      parameters: names of the parameters.
      persistent: names of what a state dict holds.
      uniform: names of tensors whose elements are all one number.
      tied: a tied tensor's further name → its first.
      owned: module path → names of all float tensors in it.
      whole: the state dict's names in order; with their arrays where those are no floats, else None.
      order: in which modules start.
      kinds: path → class name.
    """

    shapes: dict[str, tuple[int, ...]]
    parameters: tuple[str, ...]
    persistent: frozenset[str]
    uniform: frozenset[str]
    tied: dict[str, str]
    owned: dict[str, frozenset[str]]
    whole: dict[str, np.ndarray | None]
    order: list[Call]
    kinds: dict[str, str]

    def state_dict(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What a converter is given: the whole state dict in float32, with `tensors` for its own."""
        return {
            name: np.asarray(tensors[self.tied.get(name, name)], np.float32) if array is None else array
            for name, array in self.whole.items()
        }
