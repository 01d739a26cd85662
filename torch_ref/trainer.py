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
from recipe.processes.world import ALONE, World, check_split
from recipe.resize import bilinear
from recipe.system.torch_threads import needs_one_thread
from recipe.training import checkpoints
from recipe.training.description import RunDescription
from recipe.training.engine import Sums
from torch_ref.checkpoint import SUFFIX, CheckpointWriter, Tree, not_finite, read
from torch_ref.optimizer import make_optimizer, make_schedule
from torch_ref.predict import batched, device_table
from torch_ref.processes import (
    all_sum,
    averaging_gradients,
    object_of_process_0,
    own_share,
    with_global_statistics,
)
from torch_ref.runtime import runtime, set_up
from torch_ref.steps import Metrics, make_eval_step, make_loss, make_planned_step, make_train_step
from torch_ref.train_state import from_saved, make_model, set_initial_params, to_saved

DISPATCHES_UNDER_WAY = 2  # enough to keep a device busy, few enough to stop at once


class Trainer:
    """A network in training; see recipe.training.engine.Trainer."""

    checkpoint_suffix = SUFFIX

    def __init__(self, run: RunDescription, data: Dataset, world: World = ALONE):
        self._device = set_up()
        self._world = world
        check_split(run.batch_size, world.count, "processes")
        self.precision = run.precision
        self.runtime = runtime(self._device, world.count)
        self.on_cpu = self._device.type == "cpu"
        self.step = 0
        self._steps_per_dispatch = run.steps_per_dispatch or 1
        self._eval_batch_size = run.eval_batch_size
        self._writer = CheckpointWriter(run.workdir, run.record)
        self._build(run, data)

    def _build(self, run: RunDescription, data: Dataset) -> None:
        """Make the network, its optimizer and steps, and the data on the device."""
        model = make_model(run.model, run.precision, self._device)
        set_initial_params(model, run.seed)
        if self.on_cpu and needs_one_thread(model):
            torch.set_num_threads(1)
        several = self._world.count > 1
        self.model = with_global_statistics(model) if several else model
        self.optimizer = make_optimizer(run.optimizer, run.schedule, self.model)
        self._schedule = make_schedule(run.schedule)
        trained = averaging_gradients(self.model) if several else self.model
        loss = make_loss(trained, run.label_smoothing, run.precision)
        self.planned_step = make_planned_step(
            make_train_step(trained, self.optimizer, self._schedule, loss), run.augment
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
            for name, rows in dataclasses.asdict(own_share(plan, self._world)).items()
        }
        self._resize_matrix = None
        if image_size is not None:
            matrix = torch.from_numpy(bilinear(self._data["image"].shape[1], image_size))
            self._resize_matrix = matrix.to(self._device, self._data["table"].dtype)

    def train_steps(self, at_most: int) -> None:
        """Queue a dispatch of steps, and wait until no more than a few dispatches are under way."""
        before = self._sums[-1]
        sums = before if self._world.count == 1 else self._as_tensors(Sums(loss=0.0, correct=0, steps=0))
        for _ in range(min(at_most, self._steps_per_dispatch)):
            sums = self.planned_step(self.step, sums, self._data, self._plan, self._resize_matrix)
            self.step += 1
        if self._world.count > 1:
            sums = self._of_all(before, sums)
        self._sums.append(sums)
        if not self.on_cpu:
            self._done.append(torch.cuda.current_stream().record_event())
            self._done[0].synchronize()

    def any_process(self, asked: bool, *, now: bool = False) -> bool:
        """Whether any process was asked, a few dispatches ago or with `now` in this call."""
        if self._world.count == 1:
            return asked
        self._asked.append(all_sum(torch.tensor(int(asked), device=self._device)))
        return bool(self._asked[-1 if now else 0])

    def share_state(self) -> None:
        """Take over what process 0 has restored."""
        if self._world.count == 1:
            return
        step, sums, saved = object_of_process_0((self.step, self.sums(), self.get_state()))
        self.set_state(saved, step)
        self._set_sums(sums)

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
            lambda batch: self.eval_step(batch.to(self._device), table),
            images,
            self._eval_batch_size,
            self._world,
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
        self._sums = collections.deque([self._as_tensors(values)], maxlen=DISPATCHES_UNDER_WAY + 1)
        self._asked: collections.deque[Tensor] = collections.deque(maxlen=DISPATCHES_UNDER_WAY + 1)

    def _as_tensors(self, values: Sums) -> Metrics:
        return {
            "loss": torch.tensor(values.loss, dtype=self._data["table"].dtype, device=self._device),
            "correct": torch.tensor(values.correct, dtype=torch.int64, device=self._device),
            "steps": torch.tensor(values.steps, dtype=torch.int64, device=self._device),
        }

    def _of_all(self, before: Metrics, own: Metrics) -> Metrics:
        """An epoch's sums with those of a dispatch, of whose batches each process has computed its share."""
        total = all_sum(torch.stack([own["loss"].double() / self._world.count, own["correct"].double()]))
        return {
            "loss": before["loss"] + total[0].to(before["loss"].dtype),
            "correct": before["correct"] + total[1].long(),
            "steps": before["steps"] + own["steps"],
        }


def _fetch(sums: Metrics) -> Sums:
    return Sums(float(sums["loss"]), int(sums["correct"]), int(sums["steps"]))
