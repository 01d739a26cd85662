"""What a run is, as one frozen, typed value: made once from config and data, and all that is handed on.

Nothing behind this file sees the config; it is kept here as text, for the workdir and for checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from recipe.architectures import ARCHITECTURES, ModelDescription
from recipe.data import Dataset
from recipe.plan import EpochPlan, make_plan
from recipe.resize import Resize
from recipe.schedule import Schedule
from recipe.system.errors import UserError, choice

PRECISIONS = ("bf16", "f32", "f64")
AUTO = "auto"  # config.precision that is still to be settled
MOST_STEPS = 10**7  # of a run: each has a learning rate in a table; 200 epochs on CIFAR-10 have 78,000


@dataclasses.dataclass(frozen=True)
class Augment:
    """What is done to a training image; see config.augment."""

    pad: int  # pixels on each side before the random crop
    pad_mode: str  # zero | reflect
    flip: bool
    cutout: int  # side in pixels; 0 is none


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """SGD without its learning rate, which is the schedule's."""

    momentum: float
    nesterov: bool
    weight_decay: float


@dataclasses.dataclass(frozen=True)
class Inference:
    """How a network from a checkpoint is run."""

    precision: str = (
        "f32"  # bf16 | f32 | f64 | auto: the one that it was trained in, f32 where none is recorded
    )
    batch_size: int = 500  # images per evaluation step
    cpu_kernels: str = "auto"  # JAX on a CPU: auto | xla


@dataclasses.dataclass(frozen=True)
class RunDescription:
    """One training run. Fields without a comment are those of the config."""

    workdir: Path
    config_json: str  # the config that it was made from, as a JSON object
    data_digest: str  # SHA-256 of a folder's pictures; "" for data whose name says what it is
    engine: str
    model: ModelDescription
    seed: int
    precision: str
    cpu_kernels: str
    examples: int  # training images
    epochs: int
    batch_size: int
    steps_per_epoch: int  # full batches; the remainder of an epoch is dropped
    steps_per_dispatch: int  # 0: the engine chooses
    eval_batch_size: int
    label_smoothing: float
    augment: Augment
    resize: Resize
    optimizer: Optimizer
    schedule: Schedule
    checkpoint_minutes: float
    log_seconds: float
    tensorboard: bool

    def plan_of_epoch(self, epoch: int) -> EpochPlan:
        """Every random decision of an epoch, which counts from 0."""
        return make_plan(
            self.seed,
            epoch,
            examples=self.examples,
            batch_size=self.batch_size,
            image_size=self.model.image_size,
            pad=self.augment.pad,
            flip=self.augment.flip,
        )

    def image_size_of_epoch(self, epoch: int) -> int | None:
        """Pixels that an epoch's images are resized to; None where they stay as they are."""
        return self.resize.size_of_epoch(epoch, self.epochs)

    @property
    def record(self) -> dict[str, Any]:
        """What stands beside the arrays of a checkpoint: the model's description and the run's config."""
        return {"model": json.loads(self.model.to_json()), "config": json.loads(self.config_json)}


def describe_run(config: ConfigDict, data: Dataset, workdir: Path) -> RunDescription:
    """Turn a checked config and its data into the description of a run.

    Its precision is settled: see recipe.training.precision.

    Raises:
      UserError: if not even one batch can be made, there is no such network, or it could not be trained so.
    """
    assert config.precision != AUTO
    examples = len(data.train_images)
    if config.batch_size > examples:
        raise UserError(
            f"config.batch_size={config.batch_size} is larger than the data: "
            f"{data.title} has {examples} training images; choose a smaller one"
        )
    steps_per_epoch = examples // config.batch_size
    if config.epochs * steps_per_epoch > MOST_STEPS:
        raise UserError(
            f"config.epochs={config.epochs} makes {config.epochs * steps_per_epoch:,} steps, of which a run "
            f"may have {MOST_STEPS:,}; choose fewer epochs or a larger config.batch_size"
        )
    model = describe_model(config, data.class_names, data.mean, data.std)
    size = min(config.resize.sizes, default=model.image_size)
    if config.batch_size * model.smallest_map(size) ** 2 == 1:
        raise UserError(
            f"with config.batch_size=1 and images of {size} pixels, batch norm in the last stage of "
            f"{model.arch} has one value per channel, and no variance; choose a batch of 2 images at least"
        )
    return RunDescription(
        workdir=workdir,
        config_json=config.to_json(),
        data_digest=data.digest if data.name == "folder" else "",
        engine=config.engine,
        model=model,
        seed=config.seed,
        precision=config.precision,
        cpu_kernels=config.cpu_kernels,
        examples=examples,
        epochs=config.epochs,
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        steps_per_dispatch=config.steps_per_dispatch,
        eval_batch_size=config.eval_batch_size,
        label_smoothing=config.label_smoothing,
        augment=Augment(**config.augment.to_dict()),
        resize=Resize(tuple(config.resize.sizes), tuple(config.resize.starts)),
        optimizer=describe_optimizer(config),
        schedule=describe_schedule(config, steps_per_epoch),
        checkpoint_minutes=config.checkpoint.minutes,
        log_seconds=config.log.seconds,
        tensorboard=config.log.tensorboard,
    )


def describe_inference(config: ConfigDict) -> Inference:
    """How a config wants a network to be run."""
    return Inference(config.precision, config.eval_batch_size, config.cpu_kernels)


def describe_model(
    config: ConfigDict, class_names: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...]
) -> ModelDescription:
    """The network that a config asks for, for 32×32 images of these classes."""
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


def describe_optimizer(config: ConfigDict) -> Optimizer:
    """The optimizer that a config asks for."""
    given = config.optimizer
    return Optimizer(given.momentum, given.nesterov, given.weight_decay)


def describe_schedule(config: ConfigDict, steps_per_epoch: int) -> Schedule:
    """Turn the config's fractions into steps. The dropped remainder of an epoch counts nowhere."""
    given, total = config.schedule, config.epochs * steps_per_epoch
    drops = given.drops if given.name == "piecewise" else ()
    return Schedule(
        name=given.name,
        peak=config.optimizer.lr,
        total=total,
        warmup=min(round(given.warmup * total), total - 1),  # a step is left for the decay
        start=given.warmup_start,
        boundaries=tuple(round(fraction * total) for fraction in drops),
        factor=given.drop_factor,
    )
