"""How many steps go into one dispatch: as many as the engine likes, but so few that the run is heard soon."""

from __future__ import annotations

import time

from recipe.processes.world import ALONE, World
from recipe.training.engine import Trainer

SECONDS = 2.5  # that a dispatch may take; three are under way at most, so a stop is heard within ten seconds


class Pace:
    """Dispatches the steps of images of one size. Nothing is shown, saved or heard while one is under way.

    The first two dispatches have one step each: the first may be compiled, the second shows the speed. All
    processes of a run dispatch the same steps; `name` is this pace's among them.
    """

    def __init__(self, trainer: Trainer, world: World = ALONE, name: str = "pace"):
        self._trainer, self._world, self._name = trainer, world, name
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
            most = max(1, int(SECONDS / seconds))
            # process 0 decides for all
            self._most = int(self._world.exchange(self._name, str(most))[0])
