"""A process per contender. It works only when asked, and sleeps on a pipe otherwise."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from typing import Any

from parity.speed import threads
from parity.speed.jobs import Job
from recipe.system.errors import UserError
from recipe.system.memory import keep_freed_memory

PROGRAMS = {  # task → where its class is: in parity.speed.programs, torch_… and jax_… alike
    "train": ("steps", "Train"),
    "eval": ("steps", "Eval"),
    "loop": ("steps", "Loop"),
    "peaks": ("steps", "Peaks"),
    "layers": ("layers", "SingleLayers"),
}
# Neither framework finds what an earlier run compiled, and JAX does not reserve the whole of a GPU.
ENVIRONMENT = {"JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

SETTLE = 0.02  # seconds; OpenMP's threads spin for some milliseconds after their work, before they sleep


class Worker:
    """The handle of a contender's process, which starts at once and builds its program; then it waits.

    Raises:
      UserError: by every method, with the contender's name, if the process fails or dies.
    """

    def __init__(self, job: Job, task: str = ""):
        """`task` is a key of PROGRAMS, by default the job's measure."""
        self.job = job
        context = multiprocessing.get_context("spawn")  # a fork would share the parent's threads' locks
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, job, task or job.measure), daemon=True)
        self._process.start()
        theirs.close()
        self._is_made = False
        self._send("make")

    @property
    def name(self) -> str:
        """The contender's."""
        return self.job.contender.name

    def made(self, most_seconds: float | None = None) -> None:
        """Return when the program is built, in any time or in that."""
        if not self._is_made:
            self._receive(most_seconds)
            self._is_made = True

    def first(self, most_seconds: float | None = None) -> dict[str, Any]:
        """Do the program's first dispatch, in any time or in that.

        Returns:
          {"outputs", "seconds" of the first dispatch, "quantum", "tracks", "work" by track, "facts"}.
        """
        self.made(most_seconds)
        return self._ask("first", most_seconds=most_seconds)

    def time(self, track: str, steps: int) -> float:
        """Seconds for some steps, outputs waited for."""
        return self._ask("time", track, steps)

    def finish(self) -> dict[str, Any]:
        """End the process; {"peak_bytes", "idle_share": CPU seconds per second while it was not asked}."""
        result = self._ask("finish")
        self._process.join()
        return result

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _ask(self, *request: Any, most_seconds: float | None = None) -> Any:
        self._send(*request)
        return self._receive(most_seconds)

    def _send(self, *request: Any) -> None:
        try:
            self._pipe.send(request)
        except OSError as error:
            raise self._died() from error

    def _receive(self, most_seconds: float | None = None) -> Any:
        try:
            if most_seconds and not self._pipe.poll(most_seconds):
                raise UserError(f"{self.name}: no first step within {most_seconds:g} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(answer, Failure):
            raise UserError(f"{self.name}: {answer}")
        return answer

    def _died(self) -> UserError:
        self._process.join(5)
        code = self._process.exitcode
        hint = "; out of memory? a smaller --batch helps" if code == -signal.SIGKILL else ""
        return UserError(f"the process of {self.name} died (status {code}){hint}")


class Failure(str):
    """What went wrong in a worker, in one line."""


def serve(pipe: Connection, job: Job, task: str) -> None:
    """Answer requests until told to finish; the main function of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    sys.stdout = sys.stderr  # the report is the parent's
    keep_freed_memory()  # as main.py does, for either engine
    os.environ.update(ENVIRONMENT | threads.variables(threads.chosen()))
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # both on one device
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        program: Any = None
        idle = Idle()
        while True:
            try:
                name, *arguments = pipe.recv()
            except EOFError:  # the parent is gone
                return
            idle.end()
            try:
                answer: Any = None
                if name == "make":
                    program = make_program(job, task)
                elif name == "first":
                    answer = first(program)
                elif name == "time":
                    answer = timed(program, *arguments)
                else:
                    answer = {"peak_bytes": program.peak_bytes(), "idle_share": idle.share}
            except UserError as error:
                answer = Failure(error)
            except Exception as error:
                answer = Failure(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            if name == "time":
                time.sleep(SETTLE)
            idle.begin(counts=name == "time")
            pipe.send(answer)
            if name == "finish":
                return


def make_program(job: Job, task: str) -> Any:
    """Import a task's module, and the contender's framework with it, and build the program."""
    file, name = PROGRAMS[task]
    module = importlib.import_module(f"parity.speed.programs.{job.contender.side}_{file}")
    return getattr(module, name)(job)


def first(program: Any) -> dict[str, Any]:
    """See `Worker.first`."""
    start = time.perf_counter()
    outputs = program.first()
    seconds = time.perf_counter() - start
    return {
        "outputs": outputs,
        "seconds": seconds,
        "quantum": program.quantum,
        "tracks": list(program.tracks),
        "work": getattr(
            program, "work", None
        ),  # of a step, by track: operations of a product, bytes of a copy
        "facts": program.facts(),
    }


def timed(program: Any, track: str, steps: int) -> float:
    """Seconds for some steps."""
    start = time.perf_counter()
    own = program.tracks[track](steps)
    return time.perf_counter() - start if own is None else own


class Idle:
    """The CPU time that this process takes while it waits, which it would take from the others."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0
        self._since: tuple[float, float] | None = None

    def begin(self, *, counts: bool) -> None:
        """Start waiting; `counts` if others may be timed meanwhile."""
        self._since = (time.perf_counter(), time.process_time()) if counts else None

    def end(self) -> None:
        """Stop waiting."""
        if self._since:
            self._wall += time.perf_counter() - self._since[0]
            self._cpu += time.process_time() - self._since[1]

    @property
    def share(self) -> float:
        """CPU seconds per second."""
        return self._cpu / self._wall if self._wall else 0.0
