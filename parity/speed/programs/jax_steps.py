"""What is timed on JAX's side: the functions of flax_resnet, compiled as a training run compiles them."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
from flax import nnx
from flax.traverse_util import flatten_dict

from flax_resnet.augment import make_batch
from flax_resnet.cpu_kernels import choose
from flax_resnet.devices import DataMesh
from flax_resnet.model import Layers, ReLU
from flax_resnet.naming import to_torch_layout, torch_key
from flax_resnet.nn import activations
from flax_resnet.optimizer import make_optimizer
from flax_resnet.predict import device_table
from flax_resnet.steps import make_eval_step, make_train_step
from flax_resnet.train_state import TrainState, abstract_model, initial_state
from flax_resnet.trainer import Trainer
from parity.speed.jobs import Job
from parity.speed.programs.problem import Problem
from parity.speed.programs.program import Arrays, peak_rss
from recipe.training.loop import TrainingLoop

GEMM_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}


class JaxProgram:
    """The parts that every task needs."""

    quantum = 1

    def __init__(self, job: Job):
        self.job = job
        self.tracks: dict[str, Callable[[int], float | None]] = {}

    def peak_bytes(self) -> int:
        """See Program."""
        stats = jax.devices()[0].memory_stats()
        return stats["peak_bytes_in_use"] if stats else peak_rss()

    def facts(self) -> dict[str, str]:
        """See Program."""
        return {
            "jax": jax.__version__,
            "jaxlib": jaxlib.__version__,
            "flax": flax.__version__,
            "optax": optax.__version__,
            "jax device": jax.devices()[0].device_kind,
            "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        }


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
        """The recipe's initial weights."""
        return initial_state(self.job.seed, self._params, self._batch_stats, self.optimizer)

    def data(self) -> dict[str, jax.Array]:
        """All training images on the device."""
        data = self.problem.data
        return {
            "image": jnp.asarray(data.train_images),
            "label": jnp.asarray(data.train_labels),
            "table": self.table,
        }


class Train(Network):
    """The train step on one batch."""

    def __init__(self, job: Job):
        super().__init__(job)
        run = self.problem.run
        self.quantum = max(1, run.steps_per_dispatch)
        self.momentum = run.optimizer.momentum
        step = make_train_step(self.graphdef, self.optimizer, run.label_smoothing)
        self.steps = jax.jit(several(step, self.quantum) if self.quantum > 1 else step, donate_argnums=0)
        row = {name: jnp.asarray(values) for name, values in self.problem.first_row.items()}
        self.batch = jax.block_until_ready(make_batch(self.data(), row, run.augment))
        self.state = self.initial_state()
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        self.run(self.quantum)
        return decayed_gradients(self.state, self.quantum, self.momentum)

    def run(self, steps: int) -> None:
        """Do steps and wait for them."""
        for _ in range(steps // self.quantum):
            self.state, _ = self.steps(self.state, self.batch)
        jax.block_until_ready(self.state)


class Eval(Network):
    """The evaluation step on one batch of bytes."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.eval_step = make_eval_step(self.graphdef)
        state = self.initial_state()
        self.arguments = state.params, state.batch_stats, jnp.asarray(self.problem.eval_images), self.table
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
        mesh = DataMesh()  # arrays live where the trainer's do, so that the program is the same
        self.plan = dataclasses.asdict(self.problem.plan)
        same = {name: np.repeat(rows[:1], len(rows), axis=0) for name, rows in self.plan.items()}
        self.plan, self.same_plan = jax.device_put((self.plan, same), mesh.plan)
        self.device_data = jax.device_put(self.data(), mesh.replicated)
        zero = {"loss": np.float32(0), "correct": np.int32(0), "steps": np.int32(0)}
        self.zero = jax.device_put(zero, mesh.replicated)
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


class SingleLayers(JaxProgram):
    """Every layer on its own, as the network makes it."""

    def __init__(self, job: Job):
        super().__init__(job)
        native, _ = choose(dict(job.contender.config)["cpu_kernels"], job.precision)
        dtype = DTYPES[job.precision]
        make = Layers(dtype, jnp.float32, nnx.Rngs(job.seed), native)
        for number, layer in enumerate(job.layers):
            x_key, y_key, residual_key = jax.random.split(jax.random.key(number), 3)
            x = jax.random.normal(x_key, (job.batch_size, layer.size, layer.size, layer.inputs), dtype)
            dy = jax.random.normal(
                y_key, (job.batch_size, layer.output_size, layer.output_size, layer.outputs), dtype
            )
            if layer.kind == "convolution":
                conv = make.conv(layer.inputs, layer.outputs, layer.kernel, layer.stride)
                functions = convolution(*nnx.split(conv), x, dy)
            else:
                residual = jax.random.normal(residual_key, x.shape, dtype)
                functions = batch_norm(*nnx.split(make.norm(layer.outputs)), x, dy, residual, layer.then)
            for operation in layer.operations:
                self.tracks[layer.track(operation)] = repeated(*functions[operation])

    def first(self) -> Arrays:
        """See Program."""
        for run in self.tracks.values():
            run(1)
        return {}


class Gemm(JaxProgram):
    """A square matrix product, for the machine's peak."""

    def __init__(self, job: Job):
        super().__init__(job)
        size = GEMM_SIZE[jax.default_backend()]
        keys = jax.random.split(jax.random.key(job.seed))
        self.a, self.b = (jax.random.normal(key, (size, size), DTYPES[job.precision]) for key in keys)
        self.product = jax.jit(lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST))
        self.flops = 2 * size**3
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        self.run(1)
        return {}

    def run(self, steps: int) -> None:
        """Multiply and wait."""
        for _ in range(steps):
            jax.block_until_ready(self.product(self.a, self.b))


def several(step: Callable[..., Any], count: int) -> Callable[..., Any]:
    """Steps on one batch in one program, as flax_resnet.steps.make_planned_steps loops over a plan's."""

    def steps(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Any]:
        return jax.lax.scan(lambda state, _: step(state, batch), state, length=count)

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


Call = tuple[Callable[..., Any], tuple[Any, ...]]


def convolution(graphdef: Any, state: Any, x: jax.Array, dy: jax.Array) -> dict[str, Call]:
    """Operation → a compiled function and its arguments."""

    def forward(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graphdef, state)(x)

    return {
        "forward": (jax.jit(forward), (state, x)),
        "input gradient": (
            jax.jit(lambda state, x, dy: jax.vjp(lambda x: forward(state, x), x)[1](dy)),
            (state, x, dy),
        ),
        "weight gradient": (
            jax.jit(lambda state, x, dy: jax.vjp(lambda state: forward(state, x), state)[1](dy)),
            (state, x, dy),
        ),
    }


def batch_norm(
    graphdef: Any, state: Any, x: jax.Array, dy: jax.Array, residual: jax.Array, then: str
) -> dict[str, Call]:
    """Operation → a compiled function and its arguments."""
    params, statistics = map(nnx.to_pure_dict, nnx.split_state(state, nnx.Param, ...))

    def forward(params: Any, x: jax.Array, residual: jax.Array) -> jax.Array:
        follows: dict[str, dict[str, Any]] = {
            "residual": {"residual": residual, "relu": activations.relu},
            "relu": {"relu": ReLU()},
            "": {},
        }
        return nnx.merge(graphdef, params, statistics)(x, **follows[then])

    arguments = params, x, residual
    pull = jax.jit(lambda *arguments: jax.vjp(forward, *arguments)[1])(*arguments)
    return {
        "forward": (jax.jit(forward), arguments),
        "backward": (jax.jit(lambda pull, dy: pull(dy)), (pull, dy)),
    }


def repeated(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[int], None]:
    """A track that calls a function again and again."""

    def run(steps: int) -> None:
        for _ in range(steps):
            jax.block_until_ready(function(*arguments))

    return run


PROGRAMS = {"train": Train, "eval": Eval, "loop": Loop, "gemm": Gemm, "layers": SingleLayers}
