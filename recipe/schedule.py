"""The learning-rate schedule as numbers; each engine builds its own schedule from them."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A linear warm-up to `peak`, then one of three decays.

    Over the first `warmup` steps, lr(t) = peak · (start + (1 − start) · t/warmup). After it, with
    s = (t − warmup) / (total − warmup):

      piecewise:   peak · factor^(number of boundaries ≤ t)
      cosine:      peak · (1 + cos(π·s)) / 2
      triangular:  peak · (1 − s)

    Steps count from 0, and a step at a boundary already has the smaller value, as with PyTorch's
    `MultiStepLR` and `optax.piecewise_constant_schedule`.
    """

    name: str
    peak: float
    total: int  # steps of the whole run
    warmup: int  # steps
    start: float  # lr at step 0 as a fraction of the peak
    boundaries: tuple[int, ...]  # steps; piecewise only
    factor: float

    @property
    def drops(self) -> tuple[tuple[int, str], ...]:
        """(step, label) of every sudden change, for plots."""
        return tuple((step, f"lr ×{self.factor:g}") for step in self.boundaries)
