"""The processes of one run, as one of them sees it; the engines join them (`engine.join`)."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from recipe.processes.watch import LOST, Watch
from recipe.system.errors import UserError, first_line

POLL = 0.05  # seconds between two looks at the store


class Store(Protocol):
    """Texts by key, which all processes see. The frameworks' own: each brings one."""

    def set(self, key: str, value: str) -> None:
        """Set or overwrite a value."""

    def get(self, key: str) -> str | None:
        """The value, or None where nobody has set it yet. It does not wait."""


@dataclasses.dataclass(frozen=True)
class World:
    """One process among those of a run. Process 0 writes and logs; all of them compute."""

    index: int = 0
    count: int = 1
    store: Store | None = None  # None for a process that is alone

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and logs."""
        return self.index == 0

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """End this process, with one line that names it, when another one has gone or failed.

        Inside, a process that fails tells the others why.

        Raises:
          UserError: if a collective fails, and nobody has gone.
        """
        if self.store is None:
            yield
            return
        self.store.set(f"name/{self.index}", f"pid {os.getpid()} on {platform.node()}")
        watch = Watch(self.store, self.index, self.count)
        watch.start()
        try:
            yield
        except UserError as error:
            _end_without_others(2)
            watch.say_goodbye(str(error))
            raise
        except KeyboardInterrupt:
            _end_without_others(130)
            watch.say_goodbye("it was interrupted")
            raise
        except Exception as error:
            _end_without_others(1)
            if not _is_of_a_collective(error):
                watch.say_goodbye(first_line(error))
                raise
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it: first say who has gone
            watch.be_quick()
            time.sleep(LOST)  # by then the watch knows who has gone, and has ended this process
            raise UserError(
                f"process {self.index} of {self.count} lost its connection to the others "
                f"({first_line(error)}); the same command goes on from the newest checkpoint"
            ) from error
        self.meet("the end")  # the store ends with process 0
        watch.say_goodbye("")

    def meet(self, where: str) -> None:
        """Wait until all processes have come to the same place, which has a name of its own."""
        self.exchange(f"meet/{where}", "")

    def exchange(self, key: str, value: str) -> list[str]:
        """Give a text to all processes, and return those of all, by their index.

        It waits for the slowest as long as that takes: a process that has gone is the watch's matter.
        """
        if self.store is None:
            return [value]
        self.store.set(f"{key}/{self.index}", value)
        return [self._wait_for(f"{key}/{i}") for i in range(self.count)]

    def _wait_for(self, key: str) -> str:
        assert self.store is not None
        while (value := self.store.get(key)) is None:
            time.sleep(POLL)
        return value


ALONE = World()


def check_split(batch_size: int, parts: int, what: str) -> None:
    """Raise a `UserError` if a batch can't be split evenly over so many parts, which are called `what`."""
    if batch_size % parts:
        raise UserError(
            f"config.batch_size={batch_size} can't be split evenly over {parts} {what}; choose a multiple of "
            f"{parts}"
        )


def _end_without_others(status: int) -> None:
    """Let this process end when Python does: the frameworks would wait for processes that have gone."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(end)  # which comes before what was registered earlier


def _is_of_a_collective(error: Exception) -> bool:
    """Whether a framework raised it since another process does not answer."""
    words = r"gloo|nccl|connection|collective|coordination|unavailable|deadline|broken pipe|tcpstore"
    return bool(re.search(words, f"{type(error).__name__} {error}", re.IGNORECASE))
