"""Level 7: training runs, free-running and re-synchronised, and single steps with the cause."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from parity.arrays import Arrays
from parity.budgets import near_ties
from parity.budgets.reference import PERTURBATIONS, UNIT, K, distance
from parity.verify.case import Case
from parity.verify.result import Check, Finding, first_over
from parity.verify.training_runs import (
    BOUND,
    EPOCH,
    STEPS,
    Batches,
    Setting,
    State,
    TrainingRun,
    control,
    flat,
    initial_state,
    learning_rate,
    perturbed,
    states,
    worst,
)  # fmt: skip
from recipe.plan import EpochPlan

LONG_STEPS = 100
DRIFT = 10.0  # times the drift of PyTorch from itself with weights that are one unit off
SYNCHRONISED = {"f32": 5, "bf16": 2}  # steps
# Non-default values, and the cause to report if an engine ignores one: all that a trainer reads but the
# schedule's name, which level 5 goes through.
OPTIONS: dict[str, tuple[Any, str]] = {
    "seed": (5, "state"),
    "label_smoothing": (0.1, "loss"),
    "optimizer.momentum": (0.8, "momentum"),
    "optimizer.nesterov": (True, "momentum"),
    "optimizer.weight_decay": (2e-3, "weight decay"),
    "schedule.warmup": (0.3, "learning rate"),
    "schedule.warmup_start": (0.5, "learning rate"),
    "schedule.drops": ((0.4, 0.8), "learning rate"),
    "schedule.drop_factor": (0.3, "learning rate"),
    "augment.pad": (3, "pipeline"),
    "augment.pad_mode": ("reflect", "pipeline"),
    "augment.cutout": (8, "pipeline"),
}
PER_DISPATCH = 3  # steps of JAX, by a loop, where PyTorch makes one at a time


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
    findings, names, drift = [], [], 0.0
    for step, (our, their) in enumerate(zip(ours, theirs, strict=True), 1):
        error, name = worst(our, their)
        if drifting:
            drift = max(drift, worst(next(drifting), their)[0])
        findings.append(Finding(f"step {step}", error, BOUND if step <= STEPS else max(BOUND, DRIFT * drift)))
        names.append(name)
    family = cause = ""
    first = next((i for i, finding in enumerate(findings) if finding.ratio > 1), None)
    if first is not None:
        family = "momentum" if names[first].startswith("momentum") else "state"
        cause = f"at step {first + 1} {names[first]} differs most; see the checks of a single step"
    width, drops = case.description.width, " and ".join(map(str, setting.run.schedule.boundaries))
    name = f"{steps} free-running steps, width {width}, lr {setting.lr:g}, drops at {drops}"
    return Check(7, name, "f64", "of the largest element", tuple(findings), family, cause)


def options(case: Case, folder: Path) -> Check:
    """Two epochs with `OPTIONS` away from their defaults, and what a trainer reports: sums and logits.

    JAX makes several steps in one program, and evaluates in batches of which the last is not full.
    """
    others = {name: value for name, (value, _) in OPTIONS.items()}
    setting = Setting(case, "f64", 20, folder, learning_rate(case), others)
    looping = others | {"steps_per_dispatch": PER_DISPATCH, "eval_batch_size": 3}
    ours = outcome(dataclasses.replace(setting, others=looping), "jax", setting)
    theirs = outcome(setting, "torch", setting)
    findings = []
    for name in theirs:
        error, _ = worst({"": {name: ours[name]}}, {"": {name: theirs[name]}})
        findings.append(Finding(name, error, BOUND))
    family = cause = ""
    if first_over(findings):
        family, cause = _option_not_heeded(setting, ours, theirs)
    name = f"20 steps, JAX's {PER_DISPATCH} at a time, {len(OPTIONS)} options set"
    return Check(7, name, "f64", "of the largest element", tuple(findings), family, cause)


def outcome(setting: Setting, engine: str, plans: Setting) -> Arrays:
    """What a run by another setting's plans ends in: sums of epochs, logits, the state."""
    run = setting.start(engine)
    trainer = run.trainer
    found: dict[str, np.ndarray] = {}
    for epoch in range(setting.steps // EPOCH):
        run.start_epoch(plans)
        trainer.reset_sums()
        while trainer.step < EPOCH * (epoch + 1):
            trainer.train_steps(at_most=EPOCH * (epoch + 1) - trainer.step)
        found |= run.sums
    found["logits"] = np.asarray(trainer.logits(plans.data.test_images), np.float64)
    return found | flat(run.state)


def _option_not_heeded(setting: Setting, ours: Arrays, theirs: Arrays) -> tuple[str, str]:
    """The option without which the other engine, PyTorch first, gives a wrong one's numbers."""
    state = worst({"": _states_of(ours)}, {"": _states_of(theirs)})
    if state[0] <= BOUND:
        return "state", "the steps are right; what the trainer reports of them is not"
    if worst({"": outcome(setting, "jax", setting)}, {"": theirs})[0] <= BOUND:
        return "state", f"{PER_DISPATCH} steps in one program are not what single steps are"
    for engine, wrong, words in (("torch", ours, ""), ("jax", theirs, "in PyTorch: ")):
        for name, (_, family) in OPTIONS.items():
            others = {other: value for other, value in setting.others.items() if other != name}
            without = outcome(dataclasses.replace(setting, others=others), engine, setting)
            if worst({"": without}, {"": wrong})[0] <= BOUND:
                return family, f"{words}config.{name} is not heeded"
    return "unknown", "no single option explains it"


def _states_of(found: Arrays) -> Arrays:
    """Without sums and logits."""
    return {name: array for name, array in found.items() if name.startswith(("model", "momentum"))}


def single_steps(case: Case, folder: Path) -> Check:
    """Single float64 steps from PyTorch's state, in the first epoch and at the lr drops, with the cause."""
    setting = Setting(case, "f64", STEPS, folder)
    ours, theirs = setting.start("jax"), setting.start("torch")
    findings: list[Finding] = []
    family = cause = ""
    initial, state = ours.state, initial_state(setting)
    error, name = worst({"model": initial["model"]}, {"model": state["model"]})
    findings.append(Finding("initial weights", error, BOUND))
    if error > BOUND:
        family, cause = "state", f"{name} of a new network differs most"
    for step in (0, 1, 2, 14, 15, 22):
        batches = setting.batches(step // EPOCH)
        our, their = ours.one_step(state, step, batches), theirs.one_step(state, step, batches)
        error, name = worst(our, their)
        findings.append(Finding(f"step {step + 1}", error, BOUND))
        if not error <= BOUND and not cause:
            family, cause = _cause(ours, theirs, state, step, batches, our, their)
            cause = f"{name} differs most: {cause}"
        state = their
    return Check(
        7, "single steps from one state", "f64", "of the largest element", tuple(findings), family, cause
    )


def _cause(
    ours: TrainingRun,
    theirs: TrainingRun,
    state: State,
    step: int,
    batches: Batches,
    our: State,
    their: State,
) -> tuple[str, str]:
    """What one engine must have done for its result: each mistake is made with the other engine."""
    for words, wrong in (("", our), ("in PyTorch: ", their)):
        still = {n for n in state["model"] if np.array_equal(state["model"][n], wrong["model"][n])}
        if still and all("running" in name for name in still):
            return "running statistics", f"{words}{sorted(still)[0]} is not updated"
    for words, wrong, engine in (("", our, theirs), ("in PyTorch: ", their, ours)):
        for family, what, attempt in _attempts(engine, state, step, batches):
            if worst(attempt(), wrong)[0] <= BOUND:
                return family, f"{words}{what}"
    return "unknown", "no known mistake gives these numbers; what one step is made of is checked above"


def _attempts(
    engine: TrainingRun, state: State, step: int, batches: Batches
) -> list[tuple[str, str, Callable[[], State]]]:
    """Steps with one mistake each: family, what it is, and the state that it ends in."""
    attempt_of = functools.partial(functools.partial, engine.one_step)
    attempts: list[tuple[str, str, Callable[[], State]]] = [
        ("state", "the momentum was not transferred", attempt_of({**state, "momentum": {}}, step, batches)),
        ("pipeline", "the batch of the step after", attempt_of(state, step, _rolled(batches, 1))),
        ("pipeline", "the batch of the step before", attempt_of(state, step, _rolled(batches, -1))),
        ("pipeline", "images keep their size", attempt_of(state, step, batches._replace(image_size=None))),
    ]
    for other in {0, step - 1, step + 1} - {-1, step}:
        # the plan is turned so that the other step has this one's batch
        attempt = attempt_of(state, other, _rolled(batches, step - other))
        attempts.append(("learning rate", f"the learning rate of step {other + 1}", attempt))
    return attempts


def _rolled(batches: Batches, by: int) -> Batches:
    plan = dataclasses.asdict(batches.plan)
    turned = EpochPlan(**{name: np.roll(rows, -by, axis=0) for name, rows in plan.items()})
    return batches._replace(plan=turned)


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
