"""A slow dispatch has few steps, so that the run is heard."""

from __future__ import annotations

from typing import Any

import pytest

from recipe.training import pace


class Clock:
    """A trainer whose steps take their time, but only once they are waited for."""

    def __init__(self, seconds: float, compiling: float):
        self.now, self.counts = 0.0, []
        self._seconds, self._queued, self._compiling = seconds, 0, compiling

    def train_steps(self, at_most: int) -> None:
        count = min(at_most, 100)
        self.counts.append(count)
        self._queued += count

    def sums(self) -> None:
        self.now += self._queued * self._seconds + self._compiling
        self._queued = self._compiling = 0


@pytest.mark.parametrize(("seconds", "count"), [(0.001, 100), (0.2, 12), (2.0, 1), (60.0, 1), (0.0, 100)])
def test_a_dispatch_takes_a_few_seconds_at_most(seconds: float, count: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever the first step takes to compile."""
    trainer: Any = Clock(seconds, compiling=30.0)
    monkeypatch.setattr(pace.time, "monotonic", lambda: trainer.now)
    paced = pace.Pace(trainer)
    for _ in range(4):
        paced.dispatch(at_most=500)
    paced.dispatch(at_most=1)
    assert trainer.counts == [1, 1, count, count, 1]
