"""Loss of power: what was not flushed to disk may be lost, in any combination.

One run's operations are logged. Then the disk as it is after a part of them, without what was not flushed by
then, is made anew as often as time lasts, and the run goes on from there.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from tests.stress import oplog, warm
from tests.stress.faults import Faults
from tests.stress.runs import measured
from tests.stress.table import Row

LUCK = (0.0, 0.5, 0.9)  # how likely what was not flushed is kept


def run(seconds: float, seed: int, engine: str) -> list[Row]:
    """See tests.stress.parts."""
    return warm.call(__name__, "campaign", seconds=seconds, seed=seed, engine=engine)


def campaign(seconds: float, seed: int, engine: str, folder: Path) -> list[Row]:
    """Let the power fail at random operations."""
    bench, rng = measured(folder, engine), random.Random(seed)
    logged, log = bench.new_workdir(), folder / "operations"
    bench.wait(bench.start(logged, Faults(logged, log=log)), 0)
    operations = list(oplog.read(log))
    on = warm.lasts(seconds)
    tried: set[tuple[int, float]] = set()
    damaged = 0
    while on():
        count, luck = rng.randint(1, len(operations)), rng.choice(LUCK)
        disk = oplog.Disk(logged)
        for operation in operations[:count]:
            disk.do(operation)
        workdir = bench.new_workdir()
        disk.after_power_loss(workdir, rng, luck)
        saved = _whole_save(operations[:count])
        how = f"power lost after operation {count} of {len(operations)}, luck {luck}, seed {seed}"
        try:
            child = bench.start(workdir)
            bench.wait(child, 0)
            said = child.said()
            assert "Traceback" not in said, said
            begun = re.search(r"going on at step (\d+)", said)
            assert (int(begun[1]) if begun else 0) >= saved, f"step {saved} was on disk: {said}"
            damaged += ".damaged" in said
            bench.compare(workdir)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{how}") from error
        tried.add((count, luck))
    return [
        Row(
            f"power lost after a file operation of a run in {engine}: what was not flushed is lost by chance",
            len(tried),
            "the run went on from the newest checkpoint that had been flushed, to the undisturbed end; "
            f"checkpoints found damaged: {damaged}",
        )
    ]


def _whole_save(operations: list[oplog.Operation]) -> int:
    """The step of the newest checkpoint whose name had been flushed; 0 where there is none."""
    step = waiting = 0
    for operation in operations:
        found = re.fullmatch(r".*/checkpoints/latest/(\d+)(\.pt)?", operation.other)
        if (
            operation.name == "rename"
            and found
            and Path(operation.path).name.startswith(".") | (Path(operation.path).parent.name.startswith("."))
        ):
            waiting = int(found[1])
        if operation.name == "fsync" and operation.path.endswith("/checkpoints/latest"):
            step = max(step, waiting)
    return step
