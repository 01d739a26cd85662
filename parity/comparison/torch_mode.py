"""What Flax's runs depend on: the comparison's settings, and a free run of PyTorch in each mode."""

from __future__ import annotations

import dataclasses

import numpy as np

from parity.comparison.recording import Recording


@dataclasses.dataclass(frozen=True)
class Settings:
    """What both frameworks' runs have in common."""

    modes: tuple[str, ...]
    precisions: tuple[str, ...]
    gradients: bool
    seed: int
    keep: tuple[str, ...]  # patterns of PyTorch's tensors that stay as they are
    loss: bool  # whether gradients are of a loss
    optimizer: bool  # whether updates are compared


@dataclasses.dataclass(frozen=True)
class TorchMode:
    """A free run in one mode, in float64.

    Attributes:
      training: the mode.
      run: all that passed.
      cotangents: the random linear function of the outputs whose gradients are compared; None without
        gradients.
    """

    training: bool
    run: Recording
    cotangents: list[np.ndarray] | None

    @property
    def name(self) -> str:
        """As a report says it."""
        return "train" if self.training else "eval"
