"""What is timed on PyTorch's side: the functions of torch_ref, eager or compiled, in either layout."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from parity.environment import torch_facts
from parity.speed.jobs import COPY, Job
from parity.speed.programs.problem import Problem
from parity.speed.programs.program import Arrays, peak_rss
from recipe.training.loop import TrainingLoop
from torch_ref.augment import make_batch
from torch_ref.optimizer import make_optimizer, make_schedule
from torch_ref.predict import device_table
from torch_ref.runtime import set_up
from torch_ref.steps import Metrics, make_eval_step, make_loss, make_planned_step, make_train_step
from torch_ref.train_state import DTYPES, make_model, set_initial_params
from torch_ref.trainer import Trainer

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
GEMM_SIZE = {"cpu": 2048, "cuda": 8192}


class TorchProgram:
    """The parts that every task needs."""

    quantum = 1

    def __init__(self, job: Job):
        self.job = job
        self.device = set_up()
        torch.backends.cudnn.benchmark = True
        self.tracks: dict[str, Callable[[int], float | None]] = {}

    def compiled(self, function: Any) -> Any:
        """The function as the contender wants it. What is compiled counts as such only if all of it is."""
        mode = self.job.contender.compile_mode
        return torch.compile(function, mode=mode, fullgraph=True, dynamic=False) if mode else function

    def wait(self) -> None:
        """Return when the device has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_bytes(self) -> int:
        """See Program."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else peak_rss()

    def facts(self) -> dict[str, str]:
        """See Program."""
        return torch_facts()


class InLayout(nn.Module):
    """A network that gets its images in one memory layout; those that have it are not touched."""

    def __init__(self, model: nn.Module, layout: torch.memory_format):
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits."""
        return self.model(image.contiguous(memory_format=self.layout))


class Network(TorchProgram):
    """A network with the recipe's initial weights, in the contender's layout."""

    def __init__(self, job: Job, workdir: Path = Path()):
        super().__init__(job)
        self.problem = Problem(job, workdir)
        self.layout = LAYOUTS[job.contender.layout]
        self.table = device_table(self.problem.run.model, job.precision, self.device)

    def train_step(self, model: nn.Module, optimizer: torch.optim.SGD) -> Callable[..., Metrics]:
        """torch_ref's train step, its loss (forward and backward) compiled if the contender is."""
        network = InLayout(model, self.layout)
        loss = make_loss(network, self.problem.run.label_smoothing, self.job.precision)
        return make_train_step(
            network, optimizer, make_schedule(self.problem.run.schedule), self.compiled(loss)
        )

    def make_model(self) -> nn.Module:
        """A network of its own."""
        model = make_model(self.problem.run.model, self.job.precision, self.device)
        set_initial_params(model, self.job.seed)
        return model.to(memory_format=self.layout)

    def tensors(self, arrays: dict[str, Any]) -> dict[str, Tensor]:
        """NumPy arrays on the device; what counts or indexes as int64."""
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {
            name: t.to(self.device, torch.int64 if t.dtype == torch.int32 else None)
            for name, t in tensors.items()
        }

    def data(self) -> dict[str, Tensor]:
        """All training images on the device."""
        data = self.problem.data
        arrays = {"image": data.train_images, "label": data.train_labels}
        return self.tensors(arrays) | {"table": self.table}


class Train(Network):
    """The train step on one batch."""

    def __init__(self, job: Job):
        super().__init__(job)
        self.model = self.make_model()
        self.optimizer = make_optimizer(self.problem.run.optimizer, self.problem.run.schedule, self.model)
        self.step = self.train_step(self.model, self.optimizer)
        row = self.tensors(self.problem.first_row)
        self.batch = make_batch(self.data(), row, self.problem.run.augment)
        image = self.batch["image"].permute(0, 3, 1, 2).contiguous(memory_format=self.layout)
        self.batch["image"] = image.permute(0, 2, 3, 1)  # named NHWC, and in memory what the layout says
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        self.run(1)
        return decayed_gradients(self.model, self.optimizer)

    def run(self, steps: int) -> None:
        """Do steps and wait for them."""
        for _ in range(steps):
            self.step(0, self.batch)
        self.wait()


class Eval(Network):
    """The evaluation step on one batch of bytes."""

    def __init__(self, job: Job):
        super().__init__(job)
        network = InLayout(self.make_model(), self.layout)
        self.eval_step = make_eval_step(self.compiled(network), job.precision)
        self.images = torch.from_numpy(self.problem.eval_images).to(self.device)
        self.tracks = {"step": self.run}

    def first(self) -> Arrays:
        """See Program."""
        return {"logits": self.eval_step(self.images, self.table).numpy(force=True)}

    def run(self, steps: int) -> None:
        """Do steps and wait for them."""
        for _ in range(steps):
            self.eval_step(self.images, self.table)
        self.wait()


class Loop(Network):
    """The program's own training loop, and for comparison the same steps without a loop around them."""

    def __init__(self, job: Job):
        self._folder = tempfile.TemporaryDirectory()
        super().__init__(job, Path(self._folder.name))
        run, data = self.problem.run, self.problem.data
        self.quantum = job.epoch_steps
        self.trainer = Trainer(run, data)
        self.trainer.model.to(memory_format=self.layout)
        step = self.train_step(self.trainer.model, self.trainer.optimizer)
        self.trainer.planned_step = make_planned_step(step, run.augment)
        self.training_loop = TrainingLoop(run, data, self.trainer)
        self.plan = self.tensors(dataclasses.asdict(self.problem.plan))
        self.device_data = self.data()
        self.zero = {
            "loss": torch.zeros((), device=self.device),
            "correct": torch.zeros((), dtype=torch.int64, device=self.device),
            "steps": torch.zeros((), dtype=torch.int64, device=self.device),
        }
        self.tracks = {"loop": self.loop, "step": self.bare}

    def first(self) -> Arrays:
        """See Program."""
        self.bare(1)
        return decayed_gradients(self.trainer.model, self.trainer.optimizer)

    def loop(self, steps: int) -> float:
        """Train for epochs; the plans' making apart, as in the run's own record."""
        seconds = 0.0
        for _ in range(steps // self.quantum):
            self.trainer.reset_sums()
            seconds += self.training_loop.train_epoch(self.trainer.step // self.quantum)[1]
        return seconds

    def bare(self, steps: int) -> None:
        """Do steps and wait for them."""
        sums = self.zero
        for step in range(steps):
            sums = self.trainer.planned_step(step, sums, self.device_data, self.plan, None)
        self.wait()


class Peaks(TorchProgram):
    """A square matrix product and a copy within the device's memory, for what the machine can do."""

    def __init__(self, job: Job):
        super().__init__(job)
        size = GEMM_SIZE[self.device.type]
        generator = torch.Generator().manual_seed(job.seed)
        self.a, self.b = (
            torch.randn(size, size, generator=generator).to(self.device, DTYPES[job.precision][0])
            for _ in range(2)
        )
        self.source = torch.zeros(COPY, dtype=torch.uint8, device=self.device)
        self.target = torch.empty_like(self.source)
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
            torch.mm(self.a, self.b)
        self.wait()

    def copy(self, steps: int) -> None:
        """Copy and wait."""
        for _ in range(steps):
            self.target.copy_(self.source)
        self.wait()


def decayed_gradients(model: nn.Module, optimizer: torch.optim.SGD) -> Arrays:
    """After one step the momentum is the gradient with weight decay."""
    return {
        name: optimizer.state[param]["momentum_buffer"].numpy(force=True).copy()
        for name, param in model.named_parameters()
    }
