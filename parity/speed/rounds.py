"""The order in which contenders take turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

HOPELESS = 3.0  # times as slow as the best of its side in the trial: not worth more rounds

T = TypeVar("T")


class Timed(Protocol):
    """What can be asked for the seconds of some steps."""

    def time(self, track: str, steps: int) -> float:
        """Seconds."""


def orders(players: list[T], rounds: int) -> Iterator[list[T]]:
    """Every round starts with the next player, and every second one runs backwards.

    So nobody is always first after a pause, or always behind the same other one.
    """
    for number in range(rounds):
        start = number % len(players) if players else 0
        order = players[start:] + players[:start]
        yield order[::-1] if number % 2 else order


def steps_of_a_turn(step_seconds: float, seconds: float, quantum: int) -> int:
    """As many steps as fill a turn, a multiple of the quantum."""
    return quantum * max(1, math.ceil(seconds / (step_seconds * quantum)))


def take_turns(
    workers: Mapping[str, Timed],
    tracks: Mapping[str, list[str]],
    steps: Mapping[str, int],
    rounds: int,
    on_round: Callable[[int], None] = lambda number: None,
) -> dict[tuple[str, str], list[float]]:
    """Time all contenders in turn, one at a time.

    Args:
      workers: by name.
      tracks: what to time of each.
      steps: of a turn, for each.
      rounds: how often.
      on_round: called after each round with its number, from 1.

    Returns:
      (name, track) → seconds per step in each round.
    """
    players = [(name, track) for name in workers for track in tracks[name]]
    seconds: dict[tuple[str, str], list[float]] = {player: [] for player in players}
    for number, order in enumerate(orders(players, rounds), 1):
        for name, track in order:
            seconds[name, track].append(workers[name].time(track, steps[name]) / steps[name])
        on_round(number)
    return seconds


def hopeless(trials: Mapping[str, float], sides: Mapping[str, str]) -> set[str]:
    """Who is so slow in the trial that further rounds could not make it the best of its side."""
    best = {side: min(trials[name] for name in trials if sides[name] == side) for side in set(sides.values())}
    return {name for name in trials if trials[name] > HOPELESS * best[sides[name]]}
