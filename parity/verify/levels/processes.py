"""Level 10: several processes compute what one computes."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity.budgets.reference import distance, ratio
from parity.result import Check, Finding, Findings
from parity.verify.case import Case
from parity.verify.diagnose.processes import cause
from parity.verify.process_runs import of_processes, trace
from parity.verify.training_runs import BOUND, EPOCH, STEPS, Setting, learning_rate

COUNTS = {True: (2,), False: (2, 4)}  # processes, by Case.quick


def check(case: Case) -> Iterator[Check]:
    """Both engines in several processes, against PyTorch in one; float64, the recipe's initial weights."""
    with tempfile.TemporaryDirectory() as folder:
        steps = EPOCH if case.quick else STEPS
        setting = Setting(case, "f64", steps, Path(folder), learning_rate(case))
        alone = trace(setting, setting.start("torch"))
        for engine in ("torch", "jax"):
            for count in COUNTS[case.quick]:
                yield _against(alone, setting, engine, count)


def _against(alone: dict[str, np.ndarray], setting: Setting, engine: str, count: int) -> Check:
    together = of_processes(setting, engine, count)
    found = Findings()
    for name, expected in alone.items():
        error = ratio(distance(together[name], expected, "f64"), float(np.abs(expected).max()))
        found.add(Finding(name, error, BOUND), why=functools.partial(cause, setting, together, alone, count))
    name = f"{count} processes of {engine}, {setting.steps} steps"
    return found.check(10, name, "f64", "of the largest element")
