"""The schedule on both sides of every boundary, and SGD against the formula."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import flax_resnet.optimizer
import torch_ref.optimizer
from configs import r18
from recipe.schedule import Schedule
from recipe.training.description import describe_schedule

EPS32 = float(np.finfo(np.float32).eps)


def flax_lr(schedule: Schedule) -> Any:
    compiled = jax.jit(flax_resnet.optimizer.make_schedule(schedule))
    return lambda step: float(compiled(jnp.int32(step)))


ENGINES = {"flax": flax_lr, "torch": torch_ref.optimizer.make_schedule}


def schedule_of(steps_per_epoch: int, **fields: Any) -> Schedule:
    config = r18.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return describe_schedule(config, steps_per_epoch)


@pytest.mark.parametrize("engine", ENGINES)
def test_piecewise_drops_exactly_at_the_boundaries(engine: str):
    schedule = schedule_of(390)
    assert schedule.boundaries == (100 * 390, 150 * 390)
    lr = ENGINES[engine](schedule)
    first, second = schedule.boundaries
    expected = {0: 0.1, first - 1: 0.1, first: 0.1 * 0.1, second - 1: 0.1 * 0.1, second: 0.1 * 0.1 * 0.1}
    expected[schedule.total - 1] = 0.1 * 0.1 * 0.1
    assert {step: lr(step) for step in expected} == expected  # exact in float64


def test_piecewise_in_float32_is_within_an_ulp_per_drop():
    schedule = schedule_of(390)
    with jax.enable_x64(False):
        for drops, step in enumerate((schedule.boundaries[0] - 1, *schedule.boundaries)):
            lr = flax_lr(schedule)(step)
            exact = float(Fraction(1, 10) ** (drops + 1))
            assert abs(lr - exact) <= (drops + 1) * EPS32 * exact
            before = flax_lr(schedule)(step - 1)
            assert before == lr if drops == 0 else math.isclose(before, 10 * lr, rel_tol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["piecewise", "cosine", "triangular"])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_schedule_is_the_documented_formula(engine: str, name: str, warmup: float):
    schedule = schedule_of(
        10, epochs=10, schedule__name=name, schedule__warmup=warmup, schedule__warmup_start=0.25
    )
    lr = ENGINES[engine](schedule)
    warm = round(100 * warmup)
    for step in range(100):
        done = (step - warm) / (100 - warm)
        if step < warm:
            expected = 0.1 * (0.25 + 0.75 * step / warm)
        elif name == "piecewise":
            expected = 0.1 * 0.1 ** sum(step >= boundary for boundary in (50, 75))
        else:
            expected = 0.1 * ((1 + math.cos(math.pi * done)) / 2 if name == "cosine" else 1 - done)
        assert math.isclose(lr(step), expected, rel_tol=1e-13, abs_tol=1e-16), step


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_documented_formula(nesterov: bool):
    config = r18.get_config()
    config.optimizer.nesterov = nesterov
    schedule = schedule_of(2, epochs=4)
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=7), rng.normal(size=(8, 7))

    p, m = start.copy(), np.zeros(7)
    for step, gradient in enumerate(gradients):
        g = gradient + 5e-4 * p
        m = 0.9 * m + g
        p -= 0.1 * 0.1 ** ((step >= 4) + (step >= 6)) * (g + 0.9 * m if nesterov else m)

    optimizer = flax_resnet.optimizer.make_optimizer(config.optimizer, schedule)
    params = jnp.asarray(start)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params, p, rtol=1e-13)

    model = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(start.copy()))])
    reference = torch_ref.optimizer.make_optimizer(config.optimizer, schedule, model)
    for step, gradient in enumerate(gradients):
        model[0].grad = torch.from_numpy(gradient)
        reference.param_groups[0]["lr"] = torch_ref.optimizer.make_schedule(schedule)(step)
        reference.step()
    np.testing.assert_allclose(model[0].detach(), p, rtol=1e-13)
