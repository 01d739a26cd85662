"""Runs that are asked to stop at random moments; standard streams that are closed, or read no more.

These are processes of their own, started as a person starts them, since it is also the start that is tested.
"""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.stress import warm
from tests.stress.runs import Bench, measured
from tests.stress.table import Row
from tests.stress.warm import LONGEST, ROOT

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAVED = "Everything is saved; the same command goes on from here."
TAIL = "; the same command then ended as the undisturbed run, bit for bit"
CLOSED = {
    "| head -1": "{} | head -1 >/dev/null; exit ${{PIPESTATUS[0]}}",
    ">&-": "{} >&-",
    "<&-": "{} <&-",
    "2>&-": "{} 2>&-",
    "<&- >&- 2>&-": "{} <&- >&- 2>&-",
}


def run(seconds: float, seed: int) -> list[Row]:
    """See tests.stress.parts."""
    return [
        row
        for engine in ("torch", "jax")
        for row in warm.call(__name__, "campaign", seconds=seconds / 2, seed=seed, engine=engine)
    ]


def campaign(seconds: float, seed: int, engine: str, folder: Path) -> list[Row]:
    """Send each signal in turn to runs, at random moments; then close each stream in turn."""
    bench, rng = measured(folder, engine), random.Random(seed)
    closed = _closed_streams(bench)
    on = warm.lasts(seconds)
    tried: Counter[str] = Counter()
    number = 0
    while on():
        kind = SIGNALS[number % len(SIGNALS)]
        number += 1
        workdir = bench.new_workdir()
        chain = []
        while True:
            delay = rng.uniform(0, bench.seconds)
            child = bench.start(workdir)
            time.sleep(delay)
            sent = child.alive()
            child.send(kind)
            chain.append(f"{kind.name} after {delay:.3f} s")
            status, said = child.wait(), child.said()
            try:
                tried[_judge(status, said, kind)] += sent
                if status == 0:
                    bench.compare(workdir)
                    break
            except AssertionError as error:
                raise AssertionError(f"{error}\nafter {'; '.join(chain)}") from error
    return [
        Row(
            f"SIGINT, SIGTERM or SIGHUP at a random moment, {engine}",
            sum(tried.values()),
            ", ".join(f"{what}: {count}" for what, count in sorted(tried.items())) + TAIL,
        ),
        *closed,
    ]


def _judge(status: int, said: str, kind: signal.Signals) -> str:
    """What became of a run that got a signal; an `AssertionError` if that is nothing that is promised."""
    assert "Traceback" not in said, said
    if status == 0:
        return "it was done"
    if SAVED in said:
        assert status == 130, f"saved, but status {status}: {said}"
        return "saved, status 130"
    begun = "under way" in said
    if status == -kind:  # by the system, before the first step or after the last save
        assert not begun or "Epoch 2/2" in said, f"ended by the system in the midst of training: {said}"
        return "nothing to save yet or any more, ended by the signal"
    assert status == 130, f"status {status}: {said}"
    assert not begun or "Epoch 2/2" in said, f"not saved: {said}"
    return "nothing to save yet or any more, status 130"


def _closed_streams(bench: Bench) -> list[Row]:
    tried: Counter[str] = Counter()
    for name, command in CLOSED.items():
        workdir = bench.new_workdir()
        program = " ".join([sys.executable, *bench.arguments(workdir)])
        done = subprocess.run(
            ["bash", "-c", command.format(program)], cwd=ROOT, timeout=LONGEST, capture_output=True, text=True
        )
        expected = (130, 141) if "head" in name else (0,)
        assert done.returncode in expected, f"{name}: status {done.returncode}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{name}: {done.stderr}"
        bench.finish(workdir)
        tried[name] += 1
    workdir = bench.new_workdir()
    _lose_terminal(bench, workdir)
    bench.finish(workdir)
    names = ", ".join(f"`{name}`" for name in tried)
    return [
        Row(f"standard streams: {names}, {bench.engine}", len(tried), f"no traceback{TAIL}"),
        Row(f"a pseudo-terminal that is closed while the run goes on, {bench.engine}", 1, f"saved{TAIL}"),
    ]


def _lose_terminal(bench: Bench, workdir: Path) -> None:
    """Start the run in a terminal, and close that when the first epoch has been logged."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, *bench.arguments(workdir)])
    log, end = workdir / "log.txt", time.monotonic() + LONGEST
    while time.monotonic() < end and not (log.exists() and "Epoch 1" in log.read_text(encoding="utf-8")):
        time.sleep(0.01)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    text = log.read_text(encoding="utf-8")
    assert code in (0, 130, -signal.SIGHUP), f"status {code}: {text}"
    assert code == 0 or SAVED in text or "Epoch 2/2" in text, f"status {code}, not saved: {text}"
    assert [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
