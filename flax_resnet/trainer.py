"""The JAX side of the training loop in recipe/training/loop.py."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.checkpoint import SUFFIX, CheckpointWriter, not_finite, read
from flax_resnet.compilation_cache import keep_programs
from flax_resnet.devices import DataMesh
from flax_resnet.optimizer import make_optimizer, make_schedule
from flax_resnet.predict import batched, device_table
from flax_resnet.processes import from_process_0
from flax_resnet.runtime import in_own_precision, runtime, start_backend
from flax_resnet.steps import Metrics, make_eval_step, make_planned_steps, make_train_step
from flax_resnet.train_state import TrainState, Tree, abstract_model, from_saved, initial_state, to_saved
from recipe.data import Dataset
from recipe.plan import EpochPlan
from recipe.processes.world import ALONE, World
from recipe.resize import bilinear
from recipe.training import checkpoints
from recipe.training.description import RunDescription
from recipe.training.engine import Sums

DISPATCHES_UNDER_WAY = 2  # enough to keep a device busy, few enough to stop at once
STEPS_PER_DISPATCH = 10  # on accelerators, which idle while a host dispatches; it divides 390 and 100 steps


class Trainer:
    """A network in training; see recipe.training.engine.Trainer."""

    checkpoint_suffix = SUFFIX

    def __init__(self, run: RunDescription, data: Dataset, world: World = ALONE):
        start_backend()
        keep_programs()
        self.precision = run.precision
        self.runtime = runtime(run.precision, run.cpu_kernels)
        self.on_cpu = jax.default_backend() == "cpu"
        self.step = 0
        self._world = world
        self._mesh = DataMesh()
        self._mesh.check(run.batch_size)
        self._steps_per_dispatch = run.steps_per_dispatch or (1 if self.on_cpu else STEPS_PER_DISPATCH)
        self._eval_batch_size = run.eval_batch_size
        self._writer = CheckpointWriter(run.workdir, run.record)
        self._build(run, data)

    @in_own_precision
    def _build(self, run: RunDescription, data: Dataset) -> None:
        """Make the programs, the initial state, and the data on the devices."""
        graphdef, params, batch_stats = abstract_model(run.model, run.precision, run.cpu_kernels)
        optimizer = make_optimizer(run.optimizer, run.schedule)
        self.state = self._on_devices(initial_state(run.seed, params, batch_stats, optimizer))
        self.planned_steps = make_planned_steps(
            make_train_step(graphdef, optimizer, run.label_smoothing),
            run.augment,
            loop=self._steps_per_dispatch > 1,
            out=(self._mesh.state(self.state), self._mesh.replicated),
        )
        self.eval_step = make_eval_step(graphdef, self._mesh.replicated)
        self._programs: dict[int | None, Any] = {}  # by image size, where there are several processes
        # as numbers, all at once: to ask the device for one would wait for the steps that it has queued
        steps = np.arange(run.schedule.total)
        self._learning_rates = np.asarray(jax.vmap(make_schedule(run.schedule))(steps))
        self._data = self._everywhere(
            {
                "image": data.train_images,
                "label": data.train_labels,
                "table": device_table(run.model, run.precision),
            }
        )
        self._largest = jax.jit(jnp.max, out_shardings=self._mesh.replicated)
        self._plan: dict[str, jax.Array] = {}
        self._resize_matrix: jax.Array | None = None
        self.reset_sums()

    def learning_rate(self, step: int) -> float:
        """The learning rate that a step is made with."""
        return float(self._learning_rates[step])

    @in_own_precision
    def start_epoch(self, plan: EpochPlan, image_size: int | None = None) -> None:
        """Put a plan on the device; the next step is row `step % plan.steps` of it."""
        self._plan = self._mesh.put(dataclasses.asdict(plan), self._mesh.plan)
        self._resize_matrix = None
        if image_size is not None:
            matrix = bilinear(self._data["image"].shape[1], image_size).astype(self._data["table"].dtype)
            self._resize_matrix = self._everywhere(matrix)
        self._steps = self._compiled(image_size) if self._world.count > 1 else self.planned_steps

    @in_own_precision
    def train_steps(self, at_most: int) -> None:
        """Queue one dispatch of steps, and wait until no more than a few dispatches are under way."""
        count = min(at_most, self._steps_per_dispatch)
        self.state, sums = self._steps(
            self.state, self._sums[-1], self._data, self._plan, self._resize_matrix, count
        )
        self.step += count
        self._sums.append(sums)
        jax.block_until_ready(self._sums[0])

    def any_process(self, asked: bool, *, now: bool = False) -> bool:
        """Whether any process was asked, a few dispatches ago or with `now` in this call."""
        if self._world.count == 1:
            return asked
        own = np.full(
            self._mesh.size, asked, np.int32
        )  # of which each process gives what lies on its devices
        self._asked.append(self._largest(self._mesh.put(own, self._mesh.batch)))
        return bool(self._asked[-1 if now else 0])

    def share_state(self) -> None:
        """Take over what process 0 has restored."""
        if self._world.count == 1:
            return
        sums = self.sums()
        numbers = np.array([self.step, *sums], np.float64)
        numbers, saved = from_process_0((numbers, self.get_state()))
        self.set_state(saved, int(numbers[0]))
        self._set_sums(Sums(float(numbers[1]), int(numbers[2]), int(numbers[3])))

    def recent_sums(self) -> Sums:
        """The epoch's sums as of a recent step, without waiting for the steps under way."""
        return _fetch(self._sums[0])

    def sums(self) -> Sums:
        """The epoch's sums, all steps done."""
        return _fetch(self._sums[-1])

    def reset_sums(self) -> None:
        """Start a new epoch's sums."""
        self._set_sums(Sums(loss=0.0, correct=0, steps=0))

    @in_own_precision
    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), as a `Predictor` would."""
        params, batch_stats = self.state.params, self.state.batch_stats
        table = self._data["table"]
        return batched(
            lambda batch: self.eval_step(params, batch_stats, batch, table),
            images,
            self._eval_batch_size,
            self._mesh,
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
        """What a checkpoint holds: {"params", "batch_stats", "momentum"}, nested dicts with string keys."""
        return to_saved(self.state)

    @in_own_precision
    def set_state(self, saved: Tree, step: int) -> None:
        """Take the state of a checkpoint; the next step is number `step`, of an epoch without sums yet."""
        self.step = step
        self.state = self._on_devices(from_saved(saved, step, self.state))
        self.reset_sums()

    @in_own_precision
    def _set_sums(self, values: Sums) -> None:
        sums: Metrics = {
            "loss": jnp.asarray(values.loss, self._data["table"].dtype),
            "correct": jnp.asarray(values.correct, jnp.int32),
            "steps": jnp.asarray(values.steps, jnp.int32),
        }
        self._sums = collections.deque([self._everywhere(sums)], maxlen=DISPATCHES_UNDER_WAY + 1)
        self._asked: collections.deque[jax.Array] = collections.deque(maxlen=DISPATCHES_UNDER_WAY + 1)

    def _compiled(self, image_size: int | None) -> Any:
        """The program of an epoch's steps, when all processes have compiled it.

        None is left waiting in a collective for one that still compiles.
        """
        if image_size not in self._programs:
            arguments = self.state, self._sums[-1], self._data, self._plan, self._resize_matrix, 1
            self._programs[image_size] = self.planned_steps.lower(*arguments).compile()
            self._world.meet(f"compiled/{image_size}")
        return self._programs[image_size]

    def _on_devices(self, state: TrainState) -> TrainState:
        placed: TrainState = self._mesh.put(state, self._mesh.state(state))
        return placed

    def _everywhere(self, tree: Any) -> Any:
        return self._mesh.put(tree, self._mesh.replicated)


def _fetch(sums: Metrics) -> Sums:
    return Sums(float(sums["loss"]), int(sums["correct"]), int(sums["steps"]))
