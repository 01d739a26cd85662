"""Progress of an epoch: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from recipe.training.engine import Trainer

BAR_SECONDS = 0.2  # between two looks at the sums


class Progress:
    """Shows how far an epoch is. Images per second leave out a first dispatch that compiles.

    Args:
      epoch: from 1.
      epochs: of the run.
      steps: of the epoch.
      done: how many of them are done.
      batch_size: images per step.
      seconds: between two plain lines; 0 for none.
      compiled: whether the steps are; else the first dispatch is waited for.
    """

    def __init__(
        self,
        epoch: int,
        epochs: int,
        steps: int,
        done: int,
        batch_size: int,
        seconds: float,
        *,
        compiled: bool,
    ):
        self._title = f"Epoch {epoch}/{epochs}"
        self._steps, self._done = steps, done
        self._batch_size = batch_size
        self._seconds = seconds
        self._start = time.monotonic() if compiled else None
        self._start_step = done
        self._last_shown = time.monotonic()
        self._bar = (
            tqdm(total=steps, initial=done, desc=self._title, unit="step", leave=False, dynamic_ncols=True)
            if sys.stdout.isatty() and sys.stderr.isatty()
            else None
        )

    def images_per_second(self) -> float:
        """Training speed, without a first dispatch that compiles."""
        if self._start is None or self._done <= self._start_step:
            return 0.0
        return (self._done - self._start_step) * self._batch_size / (time.monotonic() - self._start)

    def update(self, done: int, trainer: Trainer, say: Callable[[str], None]) -> None:
        """Note how many of the epoch's steps are done; ask for sums and learning rate only to show them."""
        steps, self._done = done - self._done, done
        if self._start is None:
            trainer.sums()  # waits until it is done
            self._start, self._start_step = time.monotonic(), self._done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(steps)
        seconds = self._seconds if self._bar is None else BAR_SECONDS
        if not seconds or now - self._last_shown < seconds:
            return
        self._last_shown = now
        sums, lr = trainer.recent_sums(), trainer.learning_rate(trainer.step - 1)
        seen = max(sums.steps, 1)
        loss, accuracy = sums.loss / seen, sums.correct / (seen * self._batch_size)
        rate = self.images_per_second()
        text = f"loss {loss:.3f} acc {accuracy:.3f} lr {lr:.3g} {rate:.0f} img/s"
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            left = (self._steps - self._done) * self._batch_size / rate if rate else 0.0
            say(f"{self._title} step {self._done}/{self._steps} {text}, {duration(left)} left")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Write a duration as 45 s, 12 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
