"""What a worker asks of a program, whichever framework it is written in."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

Arrays = dict[str, np.ndarray]


class Program(Protocol):
    """A task made ready to be timed."""

    @property
    def tracks(self) -> Mapping[str, Callable[[int], float | None]]:
        """What can be timed: name → function of a number of steps.

        A function returns when all outputs are there, and may return the seconds itself.
        """

    @property
    def quantum(self) -> int:
        """The number of steps must be a multiple of this."""

    def first(self) -> Arrays:
        """Do the very first dispatch, which compiles, of the program that is then timed.

        Returns:
          what the referee judges: gradients (weight decay included) by parameter, or logits.
        """

    def peak_bytes(self) -> int:
        """The largest memory so far: of the device, or on a CPU of the process."""

    def facts(self) -> dict[str, str]:
        """Versions, flags, threads, device."""


def peak_rss() -> int:
    """The largest resident set of this process in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
