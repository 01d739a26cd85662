"""How many steps go into one dispatch: as many as the engine likes, but so few that the run is heard soon."""

from __future__ import annotations

import time

from recipe.training.engine import Trainer

SECONDS = 2.5  # that a dispatch may take; three are under way at most, so a stop is heard within ten seconds


class Pace:
    """Dispatches the steps of images of one size. Nothing is shown, saved or heard while one is under way.

    The first two dispatches have one step each: the first may be compiled, the second shows the speed.
    """

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._dispatches = 0
        self._most = 1

    def dispatch(self, at_most: int) -> None:
        """Dispatch some steps, one at least, and `at_most` so many."""
        began = time.monotonic()
        self._trainer.train_steps(min(at_most, self._most))
        self._dispatches += 1
        if self._dispatches <= 2:
            self._trainer.sums()  # waits until the step is done
        if self._dispatches == 2:
            seconds = max(time.monotonic() - began, 1e-9)
            self._most = max(1, int(SECONDS / seconds))
