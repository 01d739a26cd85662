"""SGD as PyTorch defines it, and the learning-rate schedule."""

from __future__ import annotations

from collections import Counter

import jax.numpy as jnp
import optax

from recipe.schedule import Schedule
from recipe.training.description import Optimizer


def make_schedule(schedule: Schedule) -> optax.Schedule:
    """Build the schedule, a function from the step to the learning rate in JAX's default float dtype."""
    if schedule.name == "piecewise":
        # optax counts a joined schedule's steps from where it takes over
        drops = Counter(schedule.boundaries)  # two fractions of a short run may be one step
        boundaries = {step - schedule.warmup: schedule.factor**count for step, count in drops.items()}
        decay = optax.piecewise_constant_schedule(schedule.peak, boundaries)
    elif schedule.name == "cosine":
        decay = optax.cosine_decay_schedule(schedule.peak, schedule.total - schedule.warmup)
    else:
        decay = optax.linear_schedule(schedule.peak, 0.0, schedule.total - schedule.warmup)
    if schedule.warmup:
        warmup = optax.linear_schedule(schedule.start * schedule.peak, schedule.peak, schedule.warmup)
        decay = optax.join_schedules([warmup, decay], [schedule.warmup])
    # optax divides an int32 step in float32 even where float64 is enabled
    return lambda step: decay(jnp.asarray(step, float))


def make_optimizer(options: Optimizer, schedule: Schedule) -> optax.GradientTransformation:
    """SGD with momentum; weight decay joins the gradient before momentum, on all parameters.

    g ← g + weight_decay·p;  m ← momentum·m + g;  p ← p − lr·m  (Nesterov: p ← p − lr·(g + momentum·m)),
    as `torch.optim.SGD` with dampening 0.
    """
    return optax.chain(
        optax.add_decayed_weights(options.weight_decay),
        optax.sgd(make_schedule(schedule), momentum=options.momentum, nesterov=options.nesterov),
    )
