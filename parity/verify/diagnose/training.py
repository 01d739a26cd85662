"""Known mistakes of a training step: the learning rate and SGD's update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import torch_ref.optimizer
from parity.cause import Cause, either
from recipe.schedule import Schedule
from recipe.state_dict import Arrays


def of_learning_rate(
    schedule: Schedule, steps: Sequence[int], first: int, ours: np.ndarray, theirs: np.ndarray
) -> Cause:
    """Why learning rates (len(steps),) differ, from the step at index `first` on."""
    rate = torch_ref.optimizer.make_schedule(schedule)
    for shift, words in ((1, "early"), (-1, "late")):
        shifted = [rate(min(max(step + shift, 0), schedule.total - 1)) for step in steps]
        if np.allclose(ours, shifted, rtol=1e-9, atol=1e-12):
            return Cause("learning rate", f"the schedule is 1 step {words}")
    words = f"from step {steps[first]} on: {ours[first]:.12g} instead of {theirs[first]:.12g}"
    return Cause("learning rate", words)


def of_update(
    config: Any,
    schedule: Schedule,
    step: int,
    params: Arrays,
    grads: Arrays,
    momentum: Arrays,
    ours: dict[str, Arrays],
    theirs: dict[str, Arrays],
    name: str,
) -> Cause:
    """Why an update of parameter `name` is wrong: SGD by its formula, with one mistake at a time.

    `ours` and `theirs` are {"params", "momentum"} after the update, the other arrays are before it.
    """
    learning_rate = torch_ref.optimizer.make_schedule(schedule)
    p, g, m = params[name], grads[name], momentum.get(name, np.zeros_like(params[name]))
    mu, wd = config.momentum, config.weight_decay
    decayed = g + wd * p

    def sgd(gradient: np.ndarray, lr: float, mu: float = mu, nesterov: bool = config.nesterov,
            dampening: float = 0.0, extra: np.ndarray | float = 0.0) -> np.ndarray:  # fmt: skip
        first = not momentum  # PyTorch's first buffer is the gradient, undamped
        buffer = mu * m + (1 if first else 1 - dampening) * gradient
        return after(p - lr * (gradient + mu * buffer if nesterov else buffer) - extra, buffer)

    def after(new: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        return np.stack([new, buffer] if config.momentum else [new])

    lr = learning_rate(step)
    others = {wrong for shift in (-1, 1) if (wrong := learning_rate(max(step + shift, 0))) != lr}
    return either(
        lambda: sgd(decayed, lr),
        [
            ("weight decay", f"no weight decay of {name}", lambda: sgd(g, lr)),
            ("weight decay", "decay after momentum, times lr", lambda: sgd(g, lr, extra=lr * wd * p)),
            ("weight decay", "decay after momentum, not times lr", lambda: sgd(g, lr, extra=wd * p)),
            ("weight decay", "decay after momentum, not times lr, and with the wrong sign",
             lambda: sgd(g, lr, extra=-wd * p)),
            ("weight decay", "decay is subtracted", lambda: sgd(g - wd * p, lr)),
            ("weight decay", "decay is applied twice", lambda: sgd(g + 2 * wd * p, lr)),
            ("momentum", "Nesterov is off", lambda: sgd(decayed, lr, nesterov=False)),
            ("momentum", "Nesterov is on", lambda: sgd(decayed, lr, nesterov=True)),
            ("momentum", "dampening 1 − momentum", lambda: sgd(decayed, lr, dampening=1 - mu)),
            ("momentum", "dampening equals momentum", lambda: sgd(decayed, lr, dampening=mu)),
            *(("momentum", f"dampening {other:g}", lambda o=other: sgd(decayed, lr, dampening=o))
              for other in (0.1, 0.5)),
            ("momentum", "no momentum", lambda: after(p - lr * decayed, decayed)),
            *(("momentum", f"momentum {other:g}", lambda o=other: sgd(decayed, lr, mu=o))
              for other in (0.99, 0.95, 0.8)),
            *(("learning rate", f"lr {other:.6g} at step {step} instead of {lr:.6g}: the drop is a step off",
               lambda o=other: sgd(decayed, o)) for other in others),
            ("learning rate", "the gradient is added", lambda: sgd(decayed, -lr)),
            ("learning rate", "lr is not applied", lambda: sgd(decayed, 1.0)),
        ],
        *(after(new["params"][name], new.get("momentum", new["params"])[name]) for new in (ours, theirs)),
    )  # fmt: skip
