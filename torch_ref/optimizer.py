"""SGD, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from recipe.schedule import Schedule
from recipe.training.description import Optimizer


def make_schedule(schedule: Schedule) -> Callable[[int], float]:
    """Return the function from the step to the learning rate, in float64."""

    def learning_rate(step: int) -> float:
        if step < schedule.warmup:
            return schedule.peak * (schedule.start + (1 - schedule.start) * step / schedule.warmup)
        if schedule.name == "piecewise":
            lr = schedule.peak
            for boundary in schedule.boundaries:
                lr = lr * schedule.factor if step >= boundary else lr
            return lr
        done = min(1.0, (step - schedule.warmup) / (schedule.total - schedule.warmup))
        if schedule.name == "cosine":
            return schedule.peak * (1 + math.cos(math.pi * done)) / 2
        return schedule.peak * (1 - done)

    return learning_rate


def make_optimizer(options: Optimizer, schedule: Schedule, model: nn.Module) -> torch.optim.SGD:
    """SGD with momentum; weight decay joins the gradient before momentum, on all parameters.

    g ← g + weight_decay·p;  m ← momentum·m + g;  p ← p − lr·m  (Nesterov: p ← p − lr·(g + momentum·m)).
    The training step sets the learning rate before every update.
    """
    params = list(model.parameters())
    return torch.optim.SGD(
        params,
        lr=make_schedule(schedule)(0),
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.nesterov,
        fused=params[0].is_cuda,  # one launch for all parameters; on a CPU there is nothing to gain
    )
