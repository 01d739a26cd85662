"""How programs end: status and line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from recipe.system import program, streams
from recipe.system.errors import UserError


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """A program that fails."""

    def run() -> NoReturn:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("take another file"), 2, "error: take another file\n"),
        (UserError("named \x1b[31m"), 2, "error: named \\x1b[31m\n"),
        (
            OSError(28, "No space left on device", "a.pt"),
            2,
            "error: [Errno 28] No space left on device: 'a.pt'\n",
        ),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_an_error_is_a_status_and_one_line(
    error: BaseException,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    silenced: list[Any] = []
    monkeypatch.setattr(streams, "silence", silenced.append)
    assert program.run(raising(error), interrupted="Stopped.") == status
    assert capsys.readouterr().err == line
    assert bool(silenced) == isinstance(error, BrokenPipeError)


def test_a_program_has_its_own_status_and_its_own_mistakes():
    assert program.run(lambda: 1, interrupted="") == 1
    with pytest.raises(ValueError, match="a mistake"):
        program.run(raising(ValueError("a mistake")), interrupted="")


def test_a_reader_that_goes_ends_a_program_without_a_word():
    command = (
        "import sys; from recipe.system import program; "
        "sys.exit(program.run(lambda: print('x' * 99999) or 0, ''))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        done = subprocess.run(
            [sys.executable, "-c", command], stdout=output, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_an_error_is_a_status_even_where_nobody_reads_it(gone: str):
    """Nothing that was printed before may fail again when Python flushes it at the end."""
    command = (
        "import sys; from recipe.system import program; from recipe.system.errors import UserError\n"
        "def fail(): print('x'); raise UserError('take another file')\n"
        "sys.exit(program.run(fail, ''))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, gone: output}
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        done = subprocess.run([sys.executable, "-c", command], text=True, env=environment, **streams)
    assert done.returncode == 2
    assert done.stdout == ("x\n" if gone == "stderr" else None)
    assert done.stderr == ("error: take another file\n" if gone == "stdout" else None)
