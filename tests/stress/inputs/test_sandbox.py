"""The campaign finds what it looks for: readers that break each promise on purpose."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recipe.system.errors import UserError
from tests.stress.inputs import sandbox
from tests.stress.inputs.reader import Reader

_SOUND = bytes(range(100, 200))
_ESCAPE = "\x1b[2J"


@pytest.fixture(scope="module")
def alone() -> Iterator[concurrent.futures.Executor]:
    """A process without threads, since `sandbox.run` forks."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


def _make(folder: Path) -> None:
    (folder / "file").write_bytes(_SOUND)


def _read(damaged: Callable[[], Any], folder: Path) -> Any:
    content = (folder / "file").read_bytes()
    return content if content == _SOUND else damaged()


def _refuse(text: str) -> None:
    raise UserError(text)


def _run(alone: concurrent.futures.Executor, keep: Path, damaged: Callable[[], Any], **options: Any) -> Any:
    reader = Reader("toy", _make, functools.partial(_read, damaged), **options)
    return alone.submit(sandbox.run, reader, 3, range(5), keep).result()


def test_one_line_is_what_is_asked(alone, tmp_path):
    outcomes = _run(alone, tmp_path, functools.partial(_refuse, f"file is damaged {_ESCAPE}"))
    assert {(one.result, one.line) for one in outcomes} <= {
        ("refused", r"file is damaged \x1b[2J"),  # as `recipe.system.program` prints it
        ("same", ""),
    }
    assert [one.number for one in outcomes] == list(range(5))
    assert list(tmp_path.iterdir()) == []
    assert outcomes == _run(alone, tmp_path, functools.partial(_refuse, f"file is damaged {_ESCAPE}"))


def test_what_has_no_checksum_may_be_read_as_it_is_now(alone, tmp_path):
    outcomes = _run(alone, tmp_path, functools.partial(bytes, 1), checked=False)
    assert "other" in {one.result for one in outcomes}


def _crash() -> None:
    os.abort()


def _fill_memory() -> int:
    return len(b"x" * (80 << 20))


def _print_traceback() -> None:
    os.write(2, b"Exception ignored in x\nTraceback (most recent call last):\n")
    _refuse("file is damaged")


def _work_for_ever() -> None:
    while True:
        pass


def _wait_for_ever() -> None:
    time.sleep(1_000)


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        (functools.partial(bytes, 1), "other values were read, and nothing was said"),
        (functools.partial(int, "x"), "ValueError: invalid literal"),
        (functools.partial(_refuse, "two\nlines"), "is not one line"),
        (functools.partial(_refuse, " "), "is not one line"),
        (functools.partial(_refuse, "damaged (MemoryError: …)"), "is one of memory"),
        (_fill_memory, "it took .* MB, more than 64"),
        (_crash, "ended with SIGABRT"),
        (_print_traceback, "it printed .*Traceback"),
        (_work_for_ever, "it took more than 1 s"),
        (_wait_for_ever, "nothing was heard for 2 s"),
    ],
)  # fmt: skip
def test_a_broken_promise_is_told_with_its_input(
    damaged: Callable[[], Any], what: str, alone: concurrent.futures.Executor, tmp_path: Path
):
    alone.submit(_limit, 2.0 if damaged is _wait_for_ever else 60.0).result()
    with pytest.raises(AssertionError, match=rf"(?s)toy, file \(.*{what}") as error:
        _run(alone, tmp_path, damaged, megabytes=64)
    assert "--reader 'toy' --seed 3 --number " in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() != _SOUND


def _limit(hangs: float) -> None:
    """Shorter times, in the process that forks."""
    sandbox.SECONDS, sandbox.HANGS = 1, hangs
