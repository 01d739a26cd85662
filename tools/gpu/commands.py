"""A program of this project, run with a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recipe.system import files

ROOT = Path(__file__).parents[2]
GRACE = 30.0  # seconds that a program has to save its state, once it was asked to stop
MOST_OUTPUT = 20_000  # characters that are kept of the output of a program that failed


class Done(NamedTuple):
    """How a program ended."""

    status: int  # its exit status; negative for a signal
    stopped: bool  # at its time limit
    seconds: float
    output: str  # standard output and error together

    @property
    def last_line(self) -> str:
        """The last line that it printed."""
        lines = self.output.strip().splitlines()
        return lines[-1].strip() if lines else "it printed nothing"

    @property
    def problem(self) -> str:
        """Why it did not end as it should, in a line; "" if it did."""
        if self.stopped:
            return "stopped at its time limit"
        return f"exit status {self.status}: {self.last_line}" if self.status else ""

    @property
    def kept(self) -> dict[str, str]:
        """What a result keeps of a program that did not end as it should: the end of its output."""
        return {"problem": self.problem, "output": self.output[-MOST_OUTPUT:]} if self.problem else {}


def run(command: Sequence[str], log: Path, seconds: float, environment: Mapping[str, str]) -> Done:
    """Run a program in the project's folder, its output in a file. It is asked to stop in time.

    Args:
      command: the program and its arguments.
      log: the file.
      seconds: that it has, with what it takes to stop.
      environment: of the program, beside this process's own.
    """
    files.make_folder(log.parent)
    begun = time.monotonic()
    stopped = False
    with log.open("wb") as file:
        # a group, but no session, of its own: whoever ends this session ends the program
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        try:
            process.wait(max(1.0, seconds - GRACE))
        except subprocess.TimeoutExpired:
            stopped = True
        finally:
            _end(process)
    output = log.read_text(encoding="utf-8", errors="replace")
    return Done(process.returncode, stopped, time.monotonic() - begun, output)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it has started."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
