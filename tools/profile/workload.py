"""What is profiled: the trainer's own steps, alone or within the training loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from flax_resnet.summary import layer_rows
from flax_resnet.trainer import Trainer
from parity.speed.jobs import Contender, Job
from parity.speed.programs.problem import Problem
from recipe.training import room
from recipe.training.loop import TrainingLoop

DISPATCH = "dispatch of train steps"  # the event around each; its stat "steps" says how many


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network, and how much of its training is profiled."""

    arch: str
    width: int  # channels of the first stage; 0 is the architecture's own
    precision: str  # bf16 | f32
    batch_size: int
    steps: int  # that are profiled; with `loop` those of an epoch
    steps_per_dispatch: int  # 0: the engine chooses
    loop: bool  # within the training loop


class AnnotatedTrainer(Trainer):
    """The trainer, whose dispatches are events of a trace."""

    def train_steps(self, at_most: int) -> None:
        """As the trainer's."""
        before = self.step
        with jax.profiler.TraceAnnotation(DISPATCH) as event:
            super().train_steps(at_most)
            event.set_metadata(steps=self.step - before)


class Run:
    """A workload made ready: what compiles has compiled, and the device has nothing left to do."""

    def __init__(self, workload: Workload, workdir: Path):
        """`workdir` is the training loop's.

        Raises:
          UserError: if there is no such network, or it can't fit into this machine's memory.
        """
        config = (("steps_per_dispatch", workload.steps_per_dispatch),)
        job = Job(
            Contender("jax", "profile", config=config), "loop", workload.arch, workload.width,
            workload.precision, workload.batch_size, epoch_steps=workload.steps,
        )  # fmt: skip
        problem = Problem(job, workdir)
        room.check(problem.run, layer_rows(problem.run.model))
        self._steps = workload.steps
        self._trainer = AnnotatedTrainer(problem.run, problem.data)
        self._loop = TrainingLoop(problem.run, problem.data, self._trainer) if workload.loop else None
        if self._loop:
            self._loop.train_epoch(0)  # its first dispatches are shorter, and compile
            self._trainer.reset_sums()
        else:
            self._trainer.start_epoch(problem.plan)
            for _ in range(2):
                self._trainer.train_steps(workload.steps)
        self._trainer.sums()

    def go(self) -> None:
        """Do the steps that are profiled, and wait for them."""
        if self._loop:
            self._loop.train_epoch(1)
            return
        end = self._trainer.step + self._steps
        while self._trainer.step < end:
            self._trainer.train_steps(end - self._trainer.step)
        self._trainer.sums()
