"""What a command says on stderr while it runs."""

from __future__ import annotations

import sys
import time


class Progress:
    """Says what runs, and the seconds since the start.

    Args:
      quiet: whether it says nothing.
    """

    def __init__(self, quiet: bool):
        self._quiet, self._started = quiet, time.monotonic()

    def __call__(self, words: str) -> None:
        """Say it."""
        if not self._quiet:
            print(f"{time.monotonic() - self._started:6.0f} s  {words}", file=sys.stderr, flush=True)
