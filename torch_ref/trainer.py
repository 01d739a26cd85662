"""The PyTorch side of the training loop in recipe/training/loop.py."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipe.data import Dataset
from recipe.plan import EpochPlan
from recipe.resize import bilinear
from recipe.training import checkpoints
from recipe.training.description import RunDescription
from recipe.training.engine import Sums
from torch_ref.checkpoint import SUFFIX, CheckpointWriter, Tree, not_finite, read
from torch_ref.optimizer import make_optimizer, make_schedule
from torch_ref.predict import batched, device_table
from torch_ref.runtime import runtime, set_up
from torch_ref.steps import Metrics, make_eval_step, make_loss, make_planned_step, make_train_step
from torch_ref.train_state import from_saved, make_model, set_initial_params, to_saved

DISPATCHES_UNDER_WAY = 2  # enough to keep a device busy, few enough to stop at once


class Trainer:
    """A network in training; see recipe.training.engine.Trainer."""

    checkpoint_suffix = SUFFIX

    def __init__(self, run: RunDescription, data: Dataset):
        self._device = set_up()
        self.precision = run.precision
        self.runtime = runtime(self._device)
        self.on_cpu = self._device.type == "cpu"
        self.step = 0
        self._steps_per_dispatch = run.steps_per_dispatch or 1
        self._eval_batch_size = run.eval_batch_size
        self._writer = CheckpointWriter(run.workdir, run.record)
        self._build(run, data)

    def _build(self, run: RunDescription, data: Dataset) -> None:
        """Make the network, its optimizer and steps, and the data on the device."""
        self.model = make_model(run.model, run.precision, self._device)
        set_initial_params(self.model, run.seed)
        self.optimizer = make_optimizer(run.optimizer, run.schedule, self.model)
        self._schedule = make_schedule(run.schedule)
        loss = make_loss(self.model, run.label_smoothing, run.precision)
        self.planned_step = make_planned_step(
            make_train_step(self.model, self.optimizer, self._schedule, loss), run.augment
        )
        self.eval_step = make_eval_step(self.model, run.precision)
        self._data = {
            "image": torch.from_numpy(data.train_images).to(self._device),
            "label": torch.from_numpy(data.train_labels).to(self._device, torch.int64),
            "table": device_table(run.model, run.precision, self._device),
        }
        self._plan: dict[str, Tensor] = {}
        self._resize_matrix: Tensor | None = None
        self._done: collections.deque[torch.cuda.Event] = collections.deque(maxlen=DISPATCHES_UNDER_WAY + 1)
        self.reset_sums()

    def learning_rate(self, step: int) -> float:
        """The learning rate that a step is made with."""
        return self._schedule(step)

    def start_epoch(self, plan: EpochPlan, image_size: int | None = None) -> None:
        """Put a plan on the device; the next step is row `step % plan.steps` of it."""
        self._plan = {
            name: torch.from_numpy(rows).to(self._device, torch.int64)
            for name, rows in dataclasses.asdict(plan).items()
        }
        self._resize_matrix = None
        if image_size is not None:
            matrix = torch.from_numpy(bilinear(self._data["image"].shape[1], image_size))
            self._resize_matrix = matrix.to(self._device, self._data["table"].dtype)

    def train_steps(self, at_most: int) -> None:
        """Queue a dispatch of steps, and wait until no more than a few dispatches are under way."""
        sums = self._sums[-1]
        for _ in range(min(at_most, self._steps_per_dispatch)):
            sums = self.planned_step(self.step, sums, self._data, self._plan, self._resize_matrix)
            self.step += 1
        self._sums.append(sums)
        if not self.on_cpu:
            self._done.append(torch.cuda.current_stream().record_event())
            self._done[0].synchronize()

    def recent_sums(self) -> Sums:
        """The epoch's sums as of a recent step, without waiting for the steps under way."""
        return _fetch(self._sums[0])

    def sums(self) -> Sums:
        """The epoch's sums, all steps done."""
        return _fetch(self._sums[-1])

    def reset_sums(self) -> None:
        """Start a new epoch's sums."""
        self._set_sums(Sums(loss=0.0, correct=0, steps=0))

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), as a `Predictor` would."""
        table = self._data["table"]
        return batched(
            lambda batch: self.eval_step(batch.to(self._device), table), images, self._eval_batch_size
        )

    def save(self, kind: str) -> None:
        """Start saving a checkpoint as "latest" or "best"."""
        progress = checkpoints.progress(self.step, self.sums())
        self._writer.save(kind, self.step, self.get_state(), progress)

    def wait_for_checkpoints(self) -> None:
        """Return when everything is on disk."""
        self._writer.wait()

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same run."""
        record, saved = read(path)
        step, sums = checkpoints.progressed(record, path)
        checkpoints.require_finite(not_finite(saved), path)
        self.set_state(saved, step)
        self._set_sums(sums)

    def get_state(self) -> Tree:
        """What a checkpoint holds: {"model", "momentum"}, copies on the CPU by parameter name."""
        return to_saved(self.model, self.optimizer)

    def set_state(self, saved: Tree, step: int) -> None:
        """Take the state of a checkpoint; the next step is number `step`, of an epoch without sums yet."""
        self.step = step
        from_saved(saved, self.model, self.optimizer)
        self.reset_sums()

    def _set_sums(self, values: Sums) -> None:
        sums: Metrics = {
            "loss": torch.tensor(values.loss, dtype=self._data["table"].dtype, device=self._device),
            "correct": torch.tensor(values.correct, dtype=torch.int64, device=self._device),
            "steps": torch.tensor(values.steps, dtype=torch.int64, device=self._device),
        }
        self._sums = collections.deque([sums], maxlen=DISPATCHES_UNDER_WAY + 1)


def _fetch(sums: Metrics) -> Sums:
    return Sums(float(sums["loss"]), int(sums["correct"]), int(sums["steps"]))
