"""Level 9: runs that change engines on the way, through converted checkpoints."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity.cause import Cause
from parity.convert.files import read
from parity.convert.layouts import OURS
from parity.convert.writing import write
from parity.result import Check, Finding, Findings
from parity.verify.case import Case
from parity.verify.training_runs import BOUND, ENGINES, EPOCH, STEPS, Setting, State, learning_rate, worst
from recipe.training import checkpoints


def check(case: Case) -> Iterator[Check]:
    """Runs that change engines, against a run that does not."""
    routes = {"jax → torch": [("jax", 7), ("torch", STEPS)], "torch → jax": [("torch", 15), ("jax", STEPS)]}
    if not case.quick:
        routes["back and forth"] = [("jax", 10), ("torch", 14), ("jax", 22), ("torch", STEPS)]
    found = Findings()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(case, "f64", STEPS, Path(folder), learning_rate(case))
        unchanged = along(setting, [("torch", STEPS)])
        for name, legs in routes.items():
            route = dataclasses.replace(setting, folder=Path(folder) / name.replace(" ", "_"))
            error, where = worst(along(route, legs), unchanged)
            why = Cause("state", f"{name}: {where} differs most")
            found.add(Finding(name, error, BOUND), why=lambda why=why: why)  # type: ignore[misc]
    name = f"{STEPS} steps with changes of engine, width {case.description.width}"
    yield found.check(9, name, "f64", "of the largest element")


def along(setting: Setting, legs: list[tuple[str, int]]) -> State:
    """Train in one engine after the other, each until a step; what the last one ends in, and all sums.

    Converted files carry the state, and the epoch's sums so far.
    """
    setting.folder.mkdir(parents=True, exist_ok=True)  # a writer makes no workdir anew
    latest = setting.folder / checkpoints.FOLDER / checkpoints.LATEST
    converted: Path | None = None
    sums: dict[str, np.ndarray] = {}
    for engine, end in legs:
        run = setting.start(engine)
        trainer = run.trainer
        if converted:
            trainer.restore(converted)
        run.start_epoch(setting)
        while trainer.step < end:
            if trainer.step % EPOCH == 0:
                run.start_epoch(setting)
                trainer.reset_sums()
            trainer.train_steps(at_most=1)
            if trainer.step % EPOCH == 0:
                sums |= run.sums
        trainer.save(checkpoints.LATEST)
        trainer.wait_for_checkpoints()
        other = "torch" if engine == "jax" else "jax"
        converted = latest / f"{end}{ENGINES[other].suffix}"
        write(converted, read(latest / f"{end}{ENGINES[engine].suffix}"), other, OURS)
    return run.state | {"sums": sums}
