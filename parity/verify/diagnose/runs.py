"""Known mistakes of runs: of one step from a given state, and of a trainer that ignores an option."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from parity.cause import Cause
from parity.verify.training_runs import BOUND, Batches, Setting, State, TrainingRun, outcome, worst
from recipe.plan import EpochPlan
from recipe.state_dict import Arrays

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


def of_initial_weights(name: str, ours: Arrays, theirs: Arrays) -> Cause:
    """New networks that differ, most in one tensor.

    Args:
      name: of the tensor.
      ours: tensors by name.
      theirs: likewise, in PyTorch.
    """
    size, right = (float(np.sqrt(np.mean(np.square(arrays[name])))) for arrays in (ours, theirs))
    words = f"its size (root mean square) is {size:.3g}, PyTorch's {right:.3g}"
    return Cause("state", f"{name} of a new network differs most: {words}")


def of_trajectory(step: int, name: str) -> Cause:
    """Free runs that differ from a step on: the tensor that differs most then."""
    family = "momentum" if name.startswith("momentum") else "state"
    return Cause(family, f"at step {step} {name} differs most; see the checks of a single step")


def ignored_option(setting: Setting, ours: Arrays, theirs: Arrays) -> Cause:
    """The option without which the other engine, PyTorch first, gives a wrong one's numbers."""
    state = worst({"": _states_of(ours)}, {"": _states_of(theirs)})
    if state[0] <= BOUND:
        return Cause("state", "the steps are right; what the trainer reports of them is not")
    if worst({"": outcome(setting, "jax", setting)}, {"": theirs})[0] <= BOUND:
        return Cause("state", f"{PER_DISPATCH} steps in one program are not what single steps are")
    for engine, wrong, words in (("torch", ours, ""), ("jax", theirs, "in PyTorch: ")):
        for name, (_, family) in OPTIONS.items():
            others = {other: value for other, value in setting.others.items() if other != name}
            without = outcome(dataclasses.replace(setting, others=others), engine, setting)
            if worst({"": without}, {"": wrong})[0] <= BOUND:
                return Cause(family, f"{words}config.{name} is not heeded")
    return Cause("unknown", "no single option explains it")


def _states_of(found: Arrays) -> Arrays:
    """Without sums and logits."""
    return {name: array for name, array in found.items() if name.startswith(("model", "momentum"))}


def of_step(
    ours: TrainingRun,
    theirs: TrainingRun,
    state: State,
    step: int,
    batches: Batches,
    our: State,
    their: State,
) -> Cause:
    """What one engine must have done for its result: each mistake is made with the other engine."""
    _, name = worst(our, their)
    found = _mistake(ours, theirs, state, step, batches, our, their)
    return Cause(found.family, f"{name} differs most: {found.words}")


def _mistake(
    ours: TrainingRun,
    theirs: TrainingRun,
    state: State,
    step: int,
    batches: Batches,
    our: State,
    their: State,
) -> Cause:
    for words, wrong in (("", our), ("in PyTorch: ", their)):
        still = {n for n in state["model"] if np.array_equal(state["model"][n], wrong["model"][n])}
        if still and all("running" in name for name in still):
            return Cause("running statistics", f"{words}{sorted(still)[0]} is not updated")
    for words, wrong, engine in (("", our, theirs), ("in PyTorch: ", their, ours)):
        for family, what, attempt in _attempts(engine, state, step, batches):
            if worst(attempt(), wrong)[0] <= BOUND:
                return Cause(family, f"{words}{what}")
    return Cause("unknown", "no known mistake gives these numbers; what one step is made of is checked above")


def _attempts(
    engine: TrainingRun, state: State, step: int, batches: Batches
) -> list[tuple[str, str, Callable[[], State]]]:
    """Steps with one mistake each: family, what it is, and the state that it ends in."""
    attempt_of = functools.partial(functools.partial, engine.one_step)
    attempts: list[tuple[str, str, Callable[[], State]]] = [
        ("state", "the momentum was not transferred", attempt_of({**state, "momentum": {}}, step, batches)),
        ("pipeline", "an epoch's last batch is left out", attempt_of(state, step, _without_last(batches))),
        ("pipeline", "the batch of the step after", attempt_of(state, step, _rolled(batches, 1))),
        ("pipeline", "the batch of the step before", attempt_of(state, step, _rolled(batches, -1))),
        ("pipeline", "images keep their size", attempt_of(state, step, batches._replace(image_size=None))),
    ]
    for other in {0, step - 1, step + 1} - {-1, step}:
        # the plan is turned so that the other step has this one's batch
        attempt = attempt_of(state, other, _rolled(batches, step - other))
        attempts.append(("learning rate", f"the learning rate of step {other + 1}", attempt))
    return attempts


def _without_last(batches: Batches) -> Batches:
    plan = dataclasses.asdict(batches.plan)
    return batches._replace(plan=EpochPlan(**{name: rows[:-1] for name, rows in plan.items()}))


def _rolled(batches: Batches, by: int) -> Batches:
    plan = dataclasses.asdict(batches.plan)
    turned = EpochPlan(**{name: np.roll(rows, -by, axis=0) for name, rows in plan.items()})
    return batches._replace(plan=turned)
