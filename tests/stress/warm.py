"""Runs a part in a process that has all imported that a run needs, and forks from there.

A start costs seconds, and a campaign needs a thousand. Neither framework minds, so long as the parent has not
used it: no backend, no threads.

python -m tests.stress.warm MODULE FUNCTION JSON     calls FUNCTION(**JSON), and prints its rows as JSON
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.stress.faults import Faults, library
from tests.stress.table import Row

ROOT = Path(__file__).parents[2]
LONGEST = 240  # seconds that a process may take on a busy machine; then it hangs


def call(module: str, function: str, **arguments: Any) -> list[Row]:
    """Call a function of a module in a warm process that has the library of faults; its rows.

    The function gets a free `folder`, too.

    Raises:
      AssertionError: with what was printed, if it fails.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # quicker to flush than a disk
    with tempfile.TemporaryDirectory(prefix="stress-", dir=memory) as folder:
        arguments["folder"] = folder
        done = subprocess.run(
            [sys.executable, "-m", "tests.stress.warm", module, function, json.dumps(arguments)],
            cwd=ROOT, env=environment(Path(folder)), capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{module}.{function} failed: {done.stderr[-6000:]}")
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def environment(folder: Path) -> dict[str, str]:
    """The variables of a process with the library, one thread, and caches of its own that are filled once."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    return os.environ | {
        "LD_PRELOAD": str(library(folder)),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


class Child:
    """A forked process that runs a function, with what it prints in a file."""

    def __init__(self, function: Callable[[], int], output: Path, faults: Faults | None = None):
        self.output = output
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_child, args=(function, output, faults))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def wait(self, seconds: float = LONGEST) -> int:
        """Its exit status, or minus the number of the signal that ended it.

        Raises:
          AssertionError: if it does not end; it is killed.
        """
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            raise AssertionError(f"no end after {seconds} s: {self.said()[-2000:]}")
        status = self._process.exitcode
        assert status is not None
        return status

    def said(self) -> str:
        """What it has printed, to both streams."""
        if not self.output.exists():  # a signal came before it was opened
            return ""
        return self.output.read_text(encoding="utf-8", errors="replace")


def _child(function: Callable[[], int], output: Path, faults: Faults | None) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    for stream in ("stdout", "stderr"):
        setattr(sys, stream, os.fdopen(1 if stream == "stdout" else 2, "w", buffering=1, closefd=False))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if faults:
        faults.arm()
    status = function()
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does at its end: waits for other threads
    sys.stdout.flush()
    os._exit(status)


def main() -> None:
    """Import what runs need, call the function, and print its rows."""
    module, function, arguments = sys.argv[1:]
    values = json.loads(arguments)
    engines = {"jax": "flax_resnet", "torch": "torch_ref"}
    for name in ("recipe.cli", "recipe.commands", "tensorboard.compat.proto.event_pb2", "matplotlib.figure"):
        importlib.import_module(name)
    for engine in [values["engine"]] if "engine" in values else engines:
        importlib.import_module(engines[engine])
    assert threading.active_count() == 1, "a process with threads can't be forked safely"
    rows = getattr(importlib.import_module(module), function)(**values | {"folder": Path(values["folder"])})
    print(json.dumps([dataclasses.asdict(row) for row in rows]))


def lasts(seconds: float) -> Callable[[], bool]:
    """A clock that says whether so many seconds, counted from now, are not over yet."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


if __name__ == "__main__":
    main()
