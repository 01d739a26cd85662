"""The same data, plan, weights and config for every contender, drawn from the seed in each process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from configs import r18
from parity.speed.jobs import Job
from recipe.data import Dataset
from recipe.plan import EpochPlan
from recipe.training import settings
from recipe.training.description import RunDescription, describe_run

CLASSES = 10
# So small that weights stay where they are and every step does the same work: on one batch, over and
# over, a real one would end in gradients of zero or in NaN, whose arithmetic has another speed.
LEARNING_RATE = 1e-12


class Problem:
    """What a job works on."""

    def __init__(self, job: Job, workdir: Path = Path()):
        """`workdir` is the training loop's; nothing else writes."""
        self.data = make_data(job)
        self.run: RunDescription = describe_run(make_config(job), self.data, workdir)

    @property
    def plan(self) -> EpochPlan:
        """The plan of the first epoch; its first row makes the batch that steps are timed on."""
        return self.run.plan_of_epoch(0)

    @property
    def first_row(self) -> dict[str, np.ndarray]:
        """The plan's row for the first step, int32 (B,) each."""
        return {name: rows[0] for name, rows in dataclasses.asdict(self.plan).items()}

    @property
    def eval_images(self) -> np.ndarray:
        """The images that evaluation is timed on, uint8 (B, 32, 32, 3)."""
        return self.data.train_images[: self.run.batch_size]


def make_config(job: Job) -> Any:
    """The default recipe for this network, without anything that writes while it is timed."""
    config = r18.get_config()
    config.update_from_flattened_dict(
        {
            "seed": job.seed,
            "precision": job.precision,
            "batch_size": job.batch_size,
            "eval_batch_size": job.batch_size,
            "epochs": 100,  # more than are timed
            "model.arch": job.arch,
            "model.width": job.width,
            "optimizer.lr": LEARNING_RATE,
            "checkpoint.minutes": 0.0,
            "log.tensorboard": False,
            **dict(job.contender.config),
        }
    )
    settings.check(config)
    return config


def make_data(job: Job) -> Dataset:
    """Random images and labels: neither framework is faster on one image than on another."""
    rng = np.random.default_rng(job.seed)
    images = rng.integers(0, 256, (job.images, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, job.images).astype(np.int32)
    names = tuple(map(str, range(CLASSES)))
    mean, std = (0.5, 0.5, 0.5), (0.289, 0.289, 0.289)  # of evenly distributed bytes
    return Dataset(
        "cifar10", "random images", "a generator", images, labels, images[:1], labels[:1], names, mean, std
    )
