"""Runs that are killed, again and again, until they end: as a run does that nothing has happened to."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

from tests.stress import warm
from tests.stress.faults import Faults
from tests.stress.runs import measured
from tests.stress.table import Row

MOMENTS = ("before", "within", "after")
LONGEST_CHAIN = 6
AT_RANDOM = 0.2  # the part of all processes that are killed at a random moment


def run(seconds: float, seed: int, engine: str) -> list[Row]:
    """See tests.stress.parts."""
    return warm.call(__name__, "campaign", seconds=seconds, seed=seed, engine=engine)


def campaign(seconds: float, seed: int, engine: str, folder: Path) -> list[Row]:
    """Run chains of processes in a workdir each: every process is killed, until one ends by itself.

    A number of a file operation counts as tried when a process was killed there. The first of a chain takes a
    large one, which it will reach; the others, which have less to do, any.
    """
    bench, rng, on = measured(folder, engine), random.Random(seed), warm.lasts(seconds)
    longest = bench.seconds
    left = [(number, moment) for moment in MOMENTS for number in range(1, bench.operations + 1)]
    rng.shuffle(left)
    tried: set[int] = set()
    killed: Counter[str] = Counter()
    chains = 0
    while on() and left:
        workdir, chain = bench.new_workdir(), []
        while len(chain) < LONGEST_CHAIN:
            if rng.random() < AT_RANDOM:
                delay = rng.uniform(0, longest)
                child = bench.start(workdir)
                time.sleep(delay)
                child.send(signal.SIGKILL)
                chain.append(f"killed after {delay:.3f} s")
                kind = "random"
            else:
                some = sorted(left[:60])
                pick = rng.choice(some if chain else some[2 * len(some) // 3 :])
                faults = Faults(workdir, *pick)
                child = bench.start(workdir, faults)
                chain.append(str(faults))
                kind = "operation"
            status = bench.wait(child, 0, -signal.SIGKILL)
            if status == 0:
                break
            killed[kind] += 1
            if kind == "operation":
                tried.add(pick[0])
                left.remove(pick)
                if not left:
                    break
        try:
            if status == 0:
                bench.compare(workdir)
            else:
                bench.finish(workdir)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter the chain: {'; '.join(chain)}") from error
        chains += 1
    end = f"{chains} chains of kills and resumptions ended as the undisturbed run, bit for bit"
    return [
        Row(
            f"SIGKILL at a file operation of a run in {engine}, before, within or after it",
            killed["operation"],
            f"{end}; at {len(tried)} of the {bench.operations} operations that a run has",
        ),
        Row(f"SIGKILL at a random moment of a run in {engine}", killed["random"], "in the same chains"),
    ]
