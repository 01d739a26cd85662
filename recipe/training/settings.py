"""Checks on a config's values, and the rule by which a workdir belongs to a config."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipe.architectures import ARCHITECTURES, ModelDescription
from recipe.data import NAMES, Dataset
from recipe.system import files
from recipe.system.errors import UserError, choice

CHOICES = {
    "engine": ("jax", "torch"),
    "precision": ("bf16", "f32", "f64"),
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
    "steps_per_dispatch": (0, 10**6),
    "eval_batch_size": (1, 10**9),
    "label_smoothing": (0, 1),
    "data.holdout": (0, 10**6),
    "model.width": (0, 4096),
    "augment.pad": (0, 31),
    "augment.cutout": (0, 32),
    "optimizer.lr": (0, float("inf")),
    "optimizer.momentum": (0, 1),
    "optimizer.weight_decay": (0, float("inf")),
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

DIGEST = "data.digest"  # in a workdir's config.json: which pictures a folder held


def fields(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every field of nested mappings."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check(config: Any) -> None:
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
    if sizes and (starts[0] != 0 or list(starts) != sorted(set(starts)) or starts[-1] >= 1):
        raise UserError(f"config.resize.starts must rise from 0 to below 1, not {starts}")
    if config.optimizer.nesterov and not config.optimizer.momentum:
        raise UserError("config.optimizer.nesterov needs a momentum above 0")


def check_size(config: Any, data: Dataset) -> None:
    """Raise a `UserError` if not even one batch can be made."""
    examples = len(data.train_images)
    if config.batch_size > examples:
        raise UserError(
            f"config.batch_size={config.batch_size} is larger than the data: "
            f"{data.title} has {examples} training images; choose a smaller one"
        )


def describe(
    config: Any, class_names: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> ModelDescription:
    """The description of the network that a config asks for, for 32×32 images of these classes."""
    arch = choice("config.model.arch", config.model.arch, ARCHITECTURES)
    return ModelDescription(
        arch=arch,
        stem=config.model.stem,
        width=config.model.width or ARCHITECTURES[arch].width,
        class_names=class_names,
        mean=mean,
        std=std,
        image_size=32,
        dataset=config.data.name,
    )


def claim(workdir: Path, config: Any, data: Dataset) -> None:
    """Make a new `workdir` this config's, or check that it is already.

    Raises:
      UserError: if the workdir holds a run whose config differs in more than `FREE` fields, or whose pictures
        were others.
    """
    path = workdir / "config.json"
    if not path.exists():
        write(workdir, config, data)
        return
    try:
        theirs = dict(fields(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}; choose another --workdir") from error
    mine = dict(fields(_described(config, data)))
    if theirs.get(DIGEST) != mine.get(DIGEST):
        raise UserError(
            f"{workdir} belongs to a run with other pictures than there are now in {config.data.dir}; "
            "choose another --workdir"
        )
    different = [
        f"{name} ({theirs.get(name, 'absent')} there, {value} here)"
        for name, value in mine.items()
        if theirs.get(name) != value and not name.startswith(FREE)
    ]
    if different:
        raise UserError(
            f"{workdir} belongs to a run with other {', '.join(different)}; choose another --workdir"
        )


def write(workdir: Path, config: Any, data: Dataset) -> None:
    """Write the config into its workdir.

    Raises:
      UserError: if that can't be done.
    """
    try:
        files.write_text(workdir / "config.json", json.dumps(_described(config, data), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"can't write to the workdir {workdir}: {error.strerror}") from error


def _described(config: Any, data: Dataset) -> dict[str, Any]:
    """The config, and of a folder of pictures what is in it, since its name says nothing about that."""
    content: dict[str, Any] = json.loads(config.to_json())
    if data.name == "folder":
        content["data"]["digest"] = data.digest
    return content
