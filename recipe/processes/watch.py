"""Who has gone: every process shows that it lives, and looks whether the others do.

A collective waits for a process that hangs or was unplugged for half an hour, and says nothing that a person
can use when its other end is gone. So each process counts up a number in the store, beside the training.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from recipe.system.terminal import lines

if TYPE_CHECKING:
    from recipe.processes.world import Store

BEAT = 1.0  # seconds between two signs of life
GONE = 30.0  # seconds without one, until a process counts as gone
GONE_QUICK = 8.0  # the same, where a collective has failed
VERDICT = "gone"  # in the store: what the first has found that knows who has gone
ADVICE = "nothing that is saved is lost: the same command goes on, with any number of processes"
LOST = GONE_QUICK + 4 * BEAT  # seconds after which a process whose collective has failed knows why


class Watch(threading.Thread):
    """Shows the others that this process lives, and ends it when one of them has gone or failed."""

    def __init__(self, store: Store, index: int, count: int):
        super().__init__(name="watch", daemon=True)
        self._store, self._index, self._count = store, index, count
        self._patience = GONE
        self._answered = time.monotonic()  # when the store did
        self._ended = threading.Event()

    def be_quick(self) -> None:
        """A collective has failed: lose patience sooner."""
        self._patience = GONE_QUICK

    def say_goodbye(self, words: str) -> None:
        """Tell the others that this process ends, and why; "" where all is done. Then watch no more."""
        self._ended.set()
        try:
            self._store.set(f"ended/{self._index}", words)
        except Exception:  # the store may have gone with the others
            return
        if words and self._index == 0:
            time.sleep(3 * BEAT)  # the store may end with this process: let the others read it

    def run(self) -> None:
        """Look whether the store still answers, until this process ends or another one has.

        What is asked of it, another thread asks: where the store's host hangs, that thread waits for it.
        """
        threading.Thread(target=self._beat_and_look, name="beat", daemon=True).start()
        while not self._ended.wait(BEAT):
            if time.monotonic() - self._answered > self._patience:
                self._end(f"process 0 of {self._count}, or what has started it, does not answer any more")

    def _beat_and_look(self) -> None:
        others = [i for i in range(self._count) if i != self._index]
        # what each showed last, and since when
        seen: dict[int, tuple[str | None, float]] = dict.fromkeys(others, (None, time.monotonic()))
        beats = 0
        while not self._ended.wait(BEAT):
            beats += 1
            try:
                self._store.set(f"beat/{self._index}", str(beats))
                if verdict := self._store.get(VERDICT):
                    self._end(verdict)
                for i in others:
                    words, shown = self._store.get(f"ended/{i}"), self._store.get(f"beat/{i}")
                    self._answered = now = time.monotonic()
                    if words:
                        self._judge(f"{self._called(i)} ended: {words}")
                    if words is not None or shown != seen[i][0]:  # it is done, or lives
                        seen[i] = shown, now
                    if now - seen[i][1] > self._patience:
                        seconds = now - seen[i][1]
                        self._judge(f"{self._called(i)} has gone: no sign of life for {seconds:.0f} seconds")
            except Exception:  # each framework has its own; the other thread counts the seconds
                continue

    def _called(self, index: int) -> str:
        name = self._store.get(f"name/{index}")
        return f"process {index} of {self._count}{f' ({name})' if name else ''}"

    def _judge(self, reason: str) -> None:
        """End this process, and let the others say the same: some would only see it go."""
        self._store.set(VERDICT, reason)
        self._end(reason)

    def _end(self, reason: str) -> None:
        """Say why, and end this process at once: its main thread may be waiting for the other one."""
        if self._ended.is_set():
            return
        self._ended.set()
        print(
            f"error: {lines(reason)}; {ADVICE}",
            file=sys.stderr,
            flush=True,
        )
        if self._index == 0:
            time.sleep(3 * BEAT)  # others may need the store to see who has gone
        os._exit(2)
