"""Which values a config may have, and which of them may change when a run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from recipe.architectures import MOST_CHANNELS
from recipe.data import NAMES
from recipe.system.errors import UserError, choice
from recipe.training.description import AUTO, PRECISIONS
from recipe.training.engine import ENGINES

CHOICES = {
    "engine": tuple(ENGINES),
    "precision": (*PRECISIONS, AUTO),
    "cpu_kernels": ("auto", "xla"),
    "data.name": NAMES,
    "data.fallback": ("digits", "none"),
    "augment.pad_mode": ("zero", "reflect"),
    "schedule.name": ("piecewise", "cosine", "triangular"),
}
# (smallest, largest) allowed value
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**63),
    "epochs": (1, 10**6),
    "batch_size": (1, 10**9),
    "steps_per_dispatch": (0, 100),
    "eval_batch_size": (1, 10**9),
    "label_smoothing": (0, 1),
    "data.holdout": (0, 10**6),
    "model.width": (0, MOST_CHANNELS),
    "augment.pad": (0, 31),
    "augment.cutout": (0, 32),
    "optimizer.lr": (0, 1000),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, 1000),
    "schedule.drop_factor": (0, 1),
    "schedule.warmup": (0, 0.99),
    "schedule.warmup_start": (0, 1),
    "checkpoint.minutes": (0, float("inf")),
    "log.seconds": (0, float("inf")),
}
# Fields that may differ when a run goes on: who computes, where the data lies, what is logged.
FREE = (
    "engine", "cpu_kernels", "steps_per_dispatch", "data.dir", "data.download", "data.fallback",
    "checkpoint.", "log.",
)  # fmt: skip


def fields(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every field of nested mappings."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check(config: ConfigDict) -> None:
    """Raise a `UserError` for the first value that makes no sense."""
    values = dict(fields(config.to_dict()))
    for name, valid in CHOICES.items():
        choice(f"config.{name}", values[name], valid)
    for name, (low, high) in RANGES.items():
        if not low <= values[name] <= high:
            raise UserError(f"config.{name} must be between {low:g} and {high:g}, not {values[name]}")
    drops = config.schedule.drops
    numbers = all(isinstance(d, int | float) for d in drops)
    if (
        not numbers
        or list(drops) != sorted(set(drops))
        or not all(config.schedule.warmup < d <= 1 for d in drops)
    ):
        raise UserError(
            f"config.schedule.drops must rise from above config.schedule.warmup to at most 1, not {drops}"
        )
    sizes, starts = config.resize.sizes, config.resize.starts
    if len(sizes) != len(starts) or not all(isinstance(s, int) and 8 <= s <= 256 for s in sizes):
        raise UserError(
            f"config.resize.sizes takes whole numbers of pixels from 8 to 256, as many as there are starts, "
            f"not {sizes} for {starts}"
        )
    if sizes and not (
        all(isinstance(s, int | float) and 0 <= s < 1 for s in starts)
        and starts[0] == 0
        and list(starts) == sorted(set(starts))
    ):
        raise UserError(f"config.resize.starts must rise from 0 to below 1, not {starts}")
    if config.optimizer.nesterov and not config.optimizer.momentum:
        raise UserError("config.optimizer.nesterov needs a momentum above 0")
