"""Level 7: training runs, free-running and re-synchronised, and single steps with the cause."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from parity.budgets import near_ties
from parity.budgets.reference import PERTURBATIONS, UNIT, K, distance
from parity.result import Check, Finding, Findings
from parity.verify.case import Case
from parity.verify.diagnose.runs import (
    OPTIONS,
    PER_DISPATCH,
    ignored_option,
    of_initial_weights,
    of_step,
    of_trajectory,
)
from parity.verify.training_runs import (
    BOUND,
    EPOCH,
    STEPS,
    Setting,
    State,
    TrainingRun,
    control,
    flat,
    initial_state,
    learning_rate,
    outcome,
    perturbed,
    states,
    worst,
)  # fmt: skip

LONG_STEPS = 100
DRIFT = 10.0  # times the drift of PyTorch from itself with weights that are one unit off
SYNCHRONISED = {"f32": 5, "bf16": 2}  # steps


def check(case: Case) -> Iterator[Check]:
    """Level 7: float64 free-running, then float32 and bfloat16 from the same state before every step."""
    steps = STEPS if case.quick else LONG_STEPS
    with tempfile.TemporaryDirectory() as folder:
        alone = single_steps(case, Path(folder))
        yield alone
        if alone.passed:  # a wrong step would only be a wrong trajectory
            yield options(case, Path(folder))
            yield free_running(case, steps, Path(folder))
    for precision, count in SYNCHRONISED.items():
        with tempfile.TemporaryDirectory() as folder:
            yield synchronised(case, precision, count, Path(folder))


def free_running(case: Case, steps: int, folder: Path) -> Check:
    """Both engines from the recipe's initial weights, each on its own.

    Beyond `STEPS`, what counts is the drift of a control: PyTorch from weights that are one unit off.
    """
    setting = Setting(case, "f64", steps, folder, learning_rate(case))
    ours, theirs = states(setting, "jax"), states(setting, "torch")
    drifting = control(setting) if steps > STEPS else None
    found, drift = Findings(), 0.0
    for step, (our, their) in enumerate(zip(ours, theirs, strict=True), 1):
        error, name = worst(our, their)
        if drifting:
            drift = max(drift, worst(next(drifting), their)[0])
        allowed = BOUND if step <= STEPS else max(BOUND, DRIFT * drift)
        found.add(Finding(f"step {step}", error, allowed), why=functools.partial(of_trajectory, step, name))
    width, drops = case.description.width, " and ".join(map(str, setting.run.schedule.boundaries))
    name = f"{steps} free-running steps, width {width}, lr {setting.lr:g}, drops at {drops}"
    return found.check(7, name, "f64", "of the largest element")


def options(case: Case, folder: Path) -> Check:
    """Two epochs with `OPTIONS` away from their defaults, and what a trainer reports: sums and logits.

    JAX makes several steps in one program, and evaluates in batches of which the last is not full.
    """
    others = {name: value for name, (value, _) in OPTIONS.items()}
    setting = Setting(case, "f64", 20, folder, learning_rate(case), others)
    looping = others | {"steps_per_dispatch": PER_DISPATCH, "eval_batch_size": 3}
    ours = outcome(dataclasses.replace(setting, others=looping), "jax", setting)
    theirs = outcome(setting, "torch", setting)
    found = Findings()
    for name in theirs:
        error, _ = worst({"": {name: ours[name]}}, {"": {name: theirs[name]}})
        why = functools.partial(ignored_option, setting, ours, theirs)
        found.add(Finding(name, error, BOUND), why=why)
    name = f"20 steps, JAX's {PER_DISPATCH} at a time, {len(OPTIONS)} options set"
    return found.check(7, name, "f64", "of the largest element")


def single_steps(case: Case, folder: Path) -> Check:
    """Single float64 steps from PyTorch's state, with the cause: an epoch's first, last, and lr drops."""
    setting = Setting(case, "f64", STEPS, folder)
    ours, theirs = setting.start("jax"), setting.start("torch")
    found = Findings()
    initial, state = ours.state, initial_state(setting)
    error, name = worst({"model": initial["model"]}, {"model": state["model"]})
    found.add(
        Finding("initial weights", error, BOUND),
        why=functools.partial(
            of_initial_weights, name.removeprefix("model "), initial["model"], state["model"]
        ),
    )
    for step in (0, 1, 2, 9, 14, 15, 22):
        batches = setting.batches(step // EPOCH)
        our, their = ours.one_step(state, step, batches), theirs.one_step(state, step, batches)
        error, _ = worst(our, their)
        found.add(
            Finding(f"step {step + 1}", error, BOUND),
            why=functools.partial(of_step, ours, theirs, state, step, batches, our, their),
        )
        state = their
    return found.check(7, "single steps from one state", "f64", "of the largest element")


def synchronised(case: Case, precision: str, count: int, folder: Path) -> Check:
    """One step at a time from PyTorch's state; the budget is PyTorch's own error in that step.

    In float32 its doubtful decisions are turned, see parity/budgets/near_ties.py.
    """
    setting, exact = (Setting(case, p, STEPS, folder) for p in (precision, "f64"))
    ours, theirs, high = setting.start("jax"), setting.start("torch"), exact.start("torch")
    state, rng = initial_state(setting), np.random.default_rng(case.seed)
    batches = setting.batches(0)._replace(image_size=None)
    findings = []

    def noise(array: np.ndarray) -> np.ndarray:
        return (array * (1 + UNIT[precision] * rng.uniform(-0.5, 0.5, array.shape))).astype(np.float32)

    for step in range(count):
        our, their = ours.one_step(state, step, batches), theirs.one_step(state, step, batches)
        allowed: dict[str, float] = {}
        doubtful: AbstractContextManager[object] = nullcontext()
        if precision == "f32":

            def here(run: TrainingRun, state: State = state, step: int = step) -> State:
                return run.one_step(state, step, batches)

            doubtful = near_ties.uncertain(here, theirs, high, step)
        for _ in range(PERTURBATIONS):
            noisy = perturbed(state, noise)
            low = flat(theirs.one_step(noisy, step, batches))
            with doubtful:
                exactly = flat(high.one_step(noisy, step, batches))
            for name in exactly:
                error = K * distance(low[name], exactly[name], precision)
                allowed[name] = max(allowed.get(name, 0.0), error)
        a, b = flat(our), flat(their)
        findings += [
            Finding(f"step {step + 1}: {name}", distance(a[name], b[name], precision), allowed[name])
            for name in b
        ]
        state = their
    unit = "relative norm" if precision == "bf16" else "largest element"
    return Check(7, f"{count} steps, each from PyTorch's state", precision, unit, tuple(findings))
