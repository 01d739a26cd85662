"""Who has gone, told from a store that threads share in the place of processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recipe.processes import native_errors, watch
from recipe.processes.watch import Watch
from recipe.processes.world import World
from recipe.system.errors import UserError


class Store:
    """A store that can hang or fail."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.answers = threading.Event()
        self.answers.set()

    def set(self, key: str, value: str) -> None:
        self.answers.wait()
        self.values[key] = value

    def get(self, key: str) -> str | None:
        self.answers.wait()
        return self.values.get(key)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses with which watches have ended this process, which goes on."""
    statuses: list[int] = []
    monkeypatch.setattr(watch.os, "_exit", statuses.append)
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "GONE", 2.0)
    return statuses


@pytest.fixture
def watches(ends: list[int]) -> Iterator[Callable[[Store, int, int], Watch]]:
    """Starts watches, and stops them behind the test."""
    started: list[Watch] = []

    def start(store: Store, index: int, count: int) -> Watch:
        started.append(Watch(store, index, count))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each._ended.set()
        each.join()


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


Start = Callable[[Store, int, int], Watch]


def test_a_process_without_a_sign_of_life_is_named_by_all_others(
    watches: Start, ends: list[int], capfd: pytest.CaptureFixture[str]
):
    store = Store()
    store.values["name/2"] = "pid 7 on there"
    for index in (0, 1):
        watches(store, index, 3)
    until(lambda: len(ends) == 2)
    assert ends == [2, 2]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("error: process 2 of 3 (pid 7 on there) has gone: no sign") for line in said)


def test_processes_that_live_or_are_done_are_left_alone(watches: Start, ends: list[int]):
    store = Store()
    one, _ = watches(store, 0, 2), watches(store, 1, 2)
    time.sleep(2.5)  # more than a silent process would get
    one.say_goodbye("")
    time.sleep(2.5)
    assert ends == []


def test_the_last_words_of_a_process_that_fails_reach_the_others(
    watches: Start, ends: list[int], capfd: pytest.CaptureFixture[str]
):
    store = Store()
    failing, _ = watches(store, 0, 2), watches(store, 1, 2)
    failing.say_goodbye("can't save x: No space left on device\x1b[31m")
    until(lambda: ends)
    line = capfd.readouterr().err
    assert "process 0 of 2 ended: can't save x: No space left on device" in line
    assert "\x1b" not in line


def test_a_store_that_hangs_is_process_0_s_silence(
    watches: Start, ends: list[int], capfd: pytest.CaptureFixture[str]
):
    store = Store()
    watches(store, 1, 2)
    until(lambda: "beat/1" in store.values)
    store.answers.clear()
    until(lambda: ends)
    store.answers.set()
    assert "process 0 of 2" in capfd.readouterr().err


def test_all_processes_get_what_each_gives():
    store = Store()
    worlds = [World(index, 3, store) for index in range(3)]
    got: dict[int, list[str]] = {}

    def give(world: World) -> None:
        got[world.index] = world.exchange("key", f"of {world.index}")

    threads = [threading.Thread(target=give, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {index: ["of 0", "of 1", "of 2"] for index in range(3)}


def test_a_process_alone_waits_for_nobody():
    assert World().exchange("key", "own") == ["own"]
    with World().watched(), pytest.raises(UserError):
        raise UserError("as it is")


FATAL = b"F1128 15:21:47.864401   15610 client.h:86] Terminating process because the JAX distributed service "
TRACE = b"\n*** Check failure stack trace: ***\n    @     0x7fe806af8174  absl::SendToLog()\n"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (FATAL + b"Either the leader task was preempted/died" + TRACE, "process 0 has gone"),
        (FATAL + b"tasks are unhealthy (stopped sending heartbeats):\n1\n3\nThe" + TRACE, "process 1, 3 has"),
        (FATAL + b"DEADLINE_EXCEEDED\n\nRPC: /xla.coordination.CoordinationService/RegisterTask" + TRACE,
         "within a minute"),
    ],
)  # fmt: skip
def test_the_last_lines_of_native_code_become_one(said: bytes, words: str):
    line = native_errors.last_words(said).decode()
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert words in line


def test_native_lines_that_nobody_knows_stay_as_they_are():
    said = b"F1128 15:21:47.864401   15610 other.cc:1] Check failed: a == b" + TRACE
    assert native_errors.last_words(said) == said
