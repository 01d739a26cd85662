"""Two processes that start at the same time in one workdir: one trains, the other is told who does."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

from tests.stress import warm
from tests.stress.runs import measured
from tests.stress.table import Row


def run(seconds: float, seed: int, engine: str) -> list[Row]:
    """See tests.stress.parts."""
    return warm.call(__name__, "campaign", seconds=seconds, seed=seed, engine=engine)


def campaign(seconds: float, seed: int, engine: str, folder: Path) -> list[Row]:
    """Start pairs; every second time the one that trains is killed, and a third one goes on."""
    bench, rng, on = measured(folder, engine), random.Random(seed), warm.lasts(seconds)
    pairs = killed = 0
    while on():
        workdir = bench.new_workdir()
        children = [bench.start(workdir, name=f"{workdir.name}-{i}") for i in range(2)]
        while all(child.alive() for child in children):
            time.sleep(0.01)
        loser, winner = sorted(children, key=lambda child: child.alive())
        status, said = loser.wait(), loser.said()
        assert status == 2, f"status {status} beside another process: {said}\nwhich said: {winner.said()}"
        lines = said.splitlines()
        assert re.fullmatch(
            rf"error: another process trains in {re.escape(str(workdir))} \(pid {winner.pid} on \S+\): "
            "wait until it has ended, or choose another --workdir",
            lines[-1],
        ), f"the process {winner.pid} trains, and the other said: {said}"
        pairs += 1
        if rng.random() < 0.5:
            time.sleep(rng.uniform(0, bench.seconds / 2))
            winner.send(signal.SIGKILL)
            killed += bench.wait(winner, 0, -signal.SIGKILL) != 0
            bench.finish(workdir)
        else:
            bench.wait(winner, 0)
            bench.compare(workdir)
    return [
        Row(
            f"two processes started at the same time in one workdir, {engine}",
            pairs,
            "one trained to the undisturbed end; the other was refused with status 2, and named its process",
        ),
        Row(
            "the one of them that trained was killed", killed, "a third one went on at once, to the same end"
        ),
    ]
