"""What is timed on JAX's side: the functions of flax_resnet, compiled as a training run compiles them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from flax_resnet.augment import make_batch
from flax_resnet.devices import DataMesh
from flax_resnet.naming import to_torch_layout, torch_key
from flax_resnet.optimizer import make_optimizer
from flax_resnet.predict import device_table
from flax_resnet.runtime import start_backend
from flax_resnet.steps import make_eval_step, make_train_step
from flax_resnet.train_state import DTYPES, TrainState, abstract_model, initial_state
from flax_resnet.trainer import Trainer
from parity.environment import jax_facts
from parity.speed import threads
from parity.speed.jobs import COPY, Job
from parity.speed.programs.problem import Problem
from parity.speed.programs.program import Arrays, peak_rss
from recipe.training.loop import TrainingLoop

GEMM_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}


class JaxProgram:
    """The parts that every task needs. Arrays live where a training run has them."""

    quantum = 1

    def __init__(self, job: Job):
        start_backend()
        self.job = job
        self.mesh = DataMesh()
        self.tracks: dict[str, Callable[[int], float | None]] = {}

    def peak_bytes(self) -> int:
        """See Program."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else peak_rss()

    def facts(self) -> dict[str, str]:
        """See Program."""
        return {**jax_facts(), "XLA threads": threads.of_xla()}


class Network(JaxProgram):
    """A network's graph, initial state and data."""

    def __init__(self, job: Job, workdir: Path = Path()):
        super().__init__(job)
        self.problem = Problem(job, workdir)
        self.graphdef, self._params, self._batch_stats = abstract_model(
            self.problem.run.model, job.precision, self.problem.run.cpu_kernels
        )
        self.optimizer = make_optimizer(self.problem.run.optimizer, self.problem.run.schedule)
        self.table = device_table(self.problem.run.model, job.precision)

    def initial_state(self) -> TrainState:
        """The recipe's initial weights, on the devices as the trainer puts them."""
        state = initial_state(self.job.seed, self._params, self._batch_stats, self.optimizer)
        return jax.device_put(state, self.mesh.state(state))

    def data(self) -> dict[str, jax.Array]:
        """All training images, on every device."""
        data = self.problem.data
        arrays = {"image": data.train_images, "label": data.train_labels, "table": self.table}
        return jax.device_put(arrays, self.mesh.replicated)


class Train(Network):
    """The train step on one batch: the trainer's program without augmentation and sums."""

    def __init__(self, job: Job):
        super().__init__(job)
        run = self.problem.run
        self.quantum = max(1, run.steps_per_dispatch)
        self.count = (self.quantum,) if self.quantum > 1 else ()
        self.momentum = run.optimizer.momentum
        step = make_train_step(self.graphdef, self.optimizer, run.label_smoothing)
        self.mesh.check(job.batch_size)
        self.state = self.initial_state()
        self.steps = jax.jit(
            several(step) if self.quantum > 1 else step,
            donate_argnums=0,
            out_shardings=(self.mesh.state(self.state), self.mesh.replicated),
        )
        row = jax.device_put(self.problem.first_row, self.mesh.batch)
        batch = make_batch(self.data(), row, run.augment)
        self.batch = jax.block_until_ready(jax.device_put(batch, self.mesh.batch))
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        self.run(self.quantum)
        return decayed_gradients(self.state, self.quantum, self.momentum)

    def run(self, steps: int) -> None:
        """Do steps and wait for them."""
        for _ in range(steps // self.quantum):
            self.state, _ = self.steps(self.state, self.batch, *self.count)
        jax.block_until_ready(self.state)


class Eval(Network):
    """The evaluation step on one batch of bytes."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.eval_step = make_eval_step(self.graphdef)
        self.mesh.check(job.batch_size)
        state = self.initial_state()
        images = jax.device_put(self.problem.eval_images, self.mesh.batch)
        table = jax.device_put(self.table, self.mesh.replicated)
        self.arguments = state.params, state.batch_stats, images, table
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        return {"logits": jax.device_get(self.eval_step(*self.arguments))}

    def run(self, steps: int) -> None:
        """Do steps, two under way at most, as evaluation does, and wait for them."""
        previous = logits = None
        for _ in range(steps):
            jax.block_until_ready(previous)
            previous, logits = logits, self.eval_step(*self.arguments)
        jax.block_until_ready((previous, logits))


class Loop(Network):
    """The program's own training loop, and for comparison the same steps without a loop around them."""

    def __init__(self, job: Job):
        self._folder = tempfile.TemporaryDirectory()
        super().__init__(job, Path(self._folder.name))
        run, data = self.problem.run, self.problem.data
        self.quantum = job.epoch_steps
        self.trainer = Trainer(run, data)
        self.training_loop = TrainingLoop(run, data, self.trainer)
        self.count = max(1, run.steps_per_dispatch)
        self.plan = dataclasses.asdict(self.problem.plan)
        same = {name: np.repeat(rows[:1], len(rows), axis=0) for name, rows in self.plan.items()}
        self.plan, self.same_plan = jax.device_put((self.plan, same), self.mesh.plan)
        self.device_data = self.data()
        zero = {"loss": np.float32(0), "correct": np.int32(0), "steps": np.int32(0)}
        self.zero = jax.device_put(zero, self.mesh.replicated)
        self.tracks = {"loop": self.loop, "step": self.bare}

    def first(self) -> Arrays:
        """See Program."""
        self.go(self.count, self.same_plan)
        return decayed_gradients(self.trainer.state, self.count, self.problem.run.optimizer.momentum)

    def loop(self, steps: int) -> float:
        """Train for epochs; the plans' making apart, as in the run's own record."""
        seconds = 0.0
        for _ in range(steps // self.quantum):
            self.trainer.reset_sums()
            seconds += self.training_loop.train_epoch(self.trainer.step // self.quantum)[1]
        return seconds

    def bare(self, steps: int) -> None:
        """Do steps and wait for them."""
        self.go(steps, self.plan)

    def go(self, steps: int, plan: Any) -> None:
        """Do steps of a plan and wait for them."""
        sums: Any = self.zero
        for _ in range(steps // self.count):
            self.trainer.state, sums = self.trainer.planned_steps(
                self.trainer.state, sums, self.device_data, plan, None, self.count
            )
        jax.block_until_ready((self.trainer.state, sums))


class Peaks(JaxProgram):
    """A square matrix product and a copy within the device's memory, for what the machine can do."""

    def __init__(self, job: Job):
        super().__init__(job)
        size = GEMM_SIZE[jax.default_backend()]
        keys = jax.random.split(jax.random.key(job.seed))
        self.a, self.b = (jax.random.normal(key, (size, size), DTYPES[job.precision][0]) for key in keys)
        self.product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
        self.source = jnp.zeros(COPY, jnp.uint8)
        self.copied = jax.jit(jnp.copy)
        self.work = {"gemm": 2 * size**3, "copy": 2 * COPY}
        self.tracks = {"gemm": self.gemm, "copy": self.copy}

    def first(self) -> Arrays:
        """See Program."""
        for run in self.tracks.values():
            run(1)
        return {}

    def gemm(self, steps: int) -> None:
        """Multiply and wait."""
        for _ in range(steps):
            jax.block_until_ready(self.product(self.a, self.b))

    def copy(self, steps: int) -> None:
        """Copy, two under way at most, and wait."""
        previous = copied = None
        for _ in range(steps):
            jax.block_until_ready(previous)
            previous, copied = copied, self.copied(self.source)
        jax.block_until_ready((previous, copied))


def several(step: Callable[..., Any]) -> Callable[..., Any]:
    """Steps on one batch in one program, as flax_resnet.steps.make_planned_steps loops over a plan's."""

    def steps(state: TrainState, batch: dict[str, jax.Array], count: int) -> tuple[TrainState, Any]:
        _, shapes = jax.eval_shape(step, state, batch)
        metrics = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return jax.lax.fori_loop(0, count, lambda _, carry: step(carry[0], batch), (state, metrics))

    return steps


def decayed_gradients(state: TrainState, steps: int, momentum: float) -> Arrays:
    """The gradient with weight decay g, from the momentum after some steps on one batch.

    Weights stay where they are, so the momentum is g·(1 + μ + … + μ^(steps − 1)).
    """
    factor = sum(momentum**step for step in range(steps))
    trace = optax.tree_utils.tree_get(state.opt_state, "trace")
    return {
        torch_key(path): to_torch_layout(np.asarray(leaf)) / factor
        for path, leaf in flatten_dict(trace).items()
    }
