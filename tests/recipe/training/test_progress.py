"""How durations are written."""

from __future__ import annotations

from recipe.training.progress import duration


def test_durations_are_readable():
    assert [duration(s) for s in (4, 89, 720, 12_000)] == ["4 s", "89 s", "12 min", "3 h 20 min"]
