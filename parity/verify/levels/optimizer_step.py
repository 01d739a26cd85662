"""Level 5: the schedule, and one update of the optimizer from the same parameters, gradients and momentum."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from ml_collections import ConfigDict

import flax_resnet.optimizer
import torch_ref.optimizer
from parity.arrays import params_tree, torch_arrays
from parity.budgets.reference import C, gamma
from parity.cause import Cause
from parity.engines import to_float
from parity.result import Check, Finding, Findings, elementwise
from parity.verify.case import Case
from parity.verify.diagnose.training import of_learning_rate, of_update
from recipe.schedule import Schedule
from recipe.state_dict import Arrays, is_param

OPERATIONS = 16  # roundings of one update or one learning rate, rounded up
TOTAL = 100
SCHEDULES = {
    "piecewise": Schedule("piecewise", 0.1, TOTAL, 0, 0.0, (50, 75), 0.1),
    "piecewise, warm-up": Schedule("piecewise", 0.1, TOTAL, 20, 0.0, (50, 75, 75), 0.2),
    "cosine": Schedule("cosine", 0.1, TOTAL, 0, 0.0, (), 0.1),
    "cosine, warm-up": Schedule("cosine", 0.3, TOTAL, 10, 0.2, (), 0.1),
    "triangular": Schedule("triangular", 0.2, TOTAL, 20, 0.2, (), 0.1),
}
RECIPES = [
    {"momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 5e-4},
]


def check(case: Case) -> Iterator[Check]:
    """Learning rates of every schedule, then updates for every recipe."""
    for name, schedule in SCHEDULES.items():
        yield learning_rates(name, schedule)
    for recipe in RECIPES:
        yield update(case, recipe)


def steps_around(schedule: Schedule) -> list[int]:
    """The first and last steps, those around every lr drop and the end of the warm-up, and some others."""
    edges = {0, schedule.warmup, *schedule.boundaries, schedule.total - 1}
    near = {edge + offset for edge in edges for offset in (-1, 0, 1)}
    return sorted(step for step in near | {7, 33, 61, 90} if 0 <= step < schedule.total)


def learning_rates(name: str, schedule: Schedule) -> Check:
    """The learning rate around every edge of a schedule, in float64."""
    ours_of, theirs_of = (
        flax_resnet.optimizer.make_schedule(schedule),
        torch_ref.optimizer.make_schedule(schedule),
    )
    steps = steps_around(schedule)
    ours = np.array([float(ours_of(jnp.asarray(step, jnp.int32))) for step in steps])  # as optax counts
    theirs = np.array([theirs_of(step) for step in steps])
    # cosine and triangle subtract from the peak what grows up to it
    allowed = C * gamma(OPERATIONS) * schedule.peak
    findings = [
        Finding(f"step {step}", abs(a - b), allowed) for step, a, b in zip(steps, ours, theirs, strict=True)
    ]

    def why() -> Cause:
        first = next(i for i, finding in enumerate(findings) if finding.ratio > 1)
        return of_learning_rate(schedule, steps, first, ours, theirs)

    found = Findings()
    found.add(*findings, why=why)
    return found.check(5, f"learning rate: {name}", "f64", "learning rate")


def update(case: Case, recipe: dict[str, Any]) -> Check:
    """One update around every lr drop, all parameters and momentum buffers, in float64."""
    schedule = SCHEDULES["piecewise"]
    config = ConfigDict(recipe)
    rng = np.random.default_rng(case.seed)
    names = [name for name in case.model if is_param(name)]
    params: Arrays = {name: np.asarray(case.model[name], np.float64) for name in names}
    grads: Arrays = {name: rng.normal(size=params[name].shape) for name in names}
    momentum: Arrays = {name: rng.normal(size=params[name].shape) for name in names}
    found = Findings()
    for step in (0, 1, 49, 50, 51, 74, 75):
        buffers = momentum if step else {}
        ours = flax_update(config, schedule, step, params, grads, buffers)
        theirs = torch_update(config, schedule, step, params, grads, buffers)
        bounds = _bounds(config, schedule, step, params, grads, buffers)
        why = functools.partial(of_update, config, schedule, step, params, grads, buffers, ours, theirs)
        for group in ("params", "momentum") if config.momentum else ("params",):
            for name in names:
                where = f"step {step}: {group} {name}"
                finding = elementwise(where, ours[group][name], theirs[group][name], bounds[group][name])
                found.add(finding, why=functools.partial(why, name))
    words = "".join(
        f", {key.replace('_', ' ')} {value:g}" if not isinstance(value, bool) else ", Nesterov" * value
        for key, value in recipe.items()
    )
    return found.check(5, f"update{words}", "f64", "largest element")


def flax_update(
    config: Any, schedule: Schedule, step: int, params: Arrays, grads: Arrays, momentum: Arrays
) -> dict[str, Arrays]:
    """One update by flax_resnet's optimizer: {"params", "momentum"} afterwards."""
    optimizer = flax_resnet.optimizer.make_optimizer(config, schedule)
    tree = jax.tree.map(jnp.asarray, params_tree(params))
    state = optimizer.init(tree)
    if config.momentum and momentum:
        state = optax.tree_utils.tree_set(state, trace=jax.tree.map(jnp.asarray, params_tree(momentum)))
    state = optax.tree_utils.tree_set(state, count=jnp.asarray(step, jnp.int32))
    updates, state = optimizer.update(jax.tree.map(jnp.asarray, params_tree(grads)), state, tree)
    after = {"params": torch_arrays(optax.apply_updates(tree, updates))}
    if config.momentum:
        after["momentum"] = torch_arrays(optax.tree_utils.tree_get(state, "trace"))
    return after


def torch_update(
    config: Any, schedule: Schedule, step: int, params: Arrays, grads: Arrays, momentum: Arrays
) -> dict[str, Arrays]:
    """The same by torch_ref's."""
    holder = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(a.copy())) for a in params.values()])
    optimizer = torch_ref.optimizer.make_optimizer(config, schedule, holder)
    for name, parameter in zip(params, holder, strict=True):
        parameter.grad = torch.from_numpy(grads[name].copy())
        if config.momentum and momentum:
            optimizer.state[parameter]["momentum_buffer"] = torch.from_numpy(momentum[name].copy())
    for group in optimizer.param_groups:
        group["lr"] = torch_ref.optimizer.make_schedule(schedule)(step)
    optimizer.step()
    after = {"params": {name: to_float(p) for name, p in zip(params, holder, strict=True)}}
    if config.momentum:
        after["momentum"] = {
            name: to_float(optimizer.state[p]["momentum_buffer"])
            for name, p in zip(params, holder, strict=True)
        }
    return after


def _bounds(
    config: Any, schedule: Schedule, step: int, params: Arrays, grads: Arrays, momentum: Arrays
) -> dict[str, Arrays]:
    """A few roundings of the sum of all magnitudes that enter."""
    lr = torch_ref.optimizer.make_schedule(schedule)(step)
    bounds: dict[str, Arrays] = {"params": {}, "momentum": {}}
    for name, p in params.items():
        gradient = np.abs(grads[name]) + config.weight_decay * np.abs(p)
        buffer = gradient + config.momentum * np.abs(momentum.get(name, np.zeros_like(p)))
        bounds["momentum"][name] = C * gamma(OPERATIONS) * buffer
        bounds["params"][name] = C * gamma(OPERATIONS) * (np.abs(p) + lr * (gradient + buffer))
    return bounds
