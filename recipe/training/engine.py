"""What the program asks of an engine: the packages `flax_resnet` and `torch_ref` are one each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from recipe.architectures import ModelDescription
from recipe.data import Dataset
from recipe.output.layer_table import LayerRow
from recipe.plan import EpochPlan
from recipe.processes.launch import Launch
from recipe.processes.world import ALONE, World
from recipe.training.description import Inference, RunDescription

ENGINES = {"jax": "flax_resnet", "torch": "torch_ref"}  # config.engine → package


class Sums(NamedTuple):
    """Metrics of an epoch's steps so far; part of every checkpoint, since a run may go on mid-epoch."""

    loss: float  # sum of the steps' mean losses
    correct: int  # right predictions, made before each update
    steps: int


class Predictor(Protocol):
    """A network that turns images into logits."""

    @property
    def runtime(self) -> str:
        """Library versions and device, for the log."""

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map uint8 images (N, H, W, 3) to float logits (N, classes) in eval mode, N ≥ 1."""


class LoadedPredictor(Predictor, Protocol):
    """A network from a checkpoint."""

    @property
    def held_out(self) -> int:
        """How many training images it was not trained on (config.data.holdout); 0 where that is not known."""


class Trainer(Predictor, Protocol):
    """A network in training. Steps count from 0; a step is one batch of the current plan."""

    @property
    def step(self) -> int:
        """Steps done."""

    @property
    def checkpoint_suffix(self) -> str:
        """How the names of this engine's checkpoints end."""

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on a CPU, where a long run deserves a warning."""

    def learning_rate(self, step: int) -> float:
        """The learning rate that a step is made with."""

    def start_epoch(self, plan: EpochPlan, image_size: int | None = None) -> None:
        """Take a plan; the next step is row `step % plan.steps` of it.

        Images are resized to `image_size` pixels, if it is given.
        """

    def train_steps(self, at_most: int) -> None:
        """Do, or queue, the next dispatch's steps: steps_per_dispatch of the run, but no more than `at_most`.

        It does not wait for them, so long as no more than a few dispatches are under way.
        """

    def any_process(self, asked: bool, *, now: bool = False) -> bool:
        """Whether any process was asked: the same answer in all, which call this behind the same steps.

        It does not wait for the steps under way, and so it answers what was asked a few dispatches ago; with
        `now` it waits, and answers what is asked now. One process gets its own answer at once.
        """

    def share_state(self) -> None:
        """Take over the state, step and sums that process 0 has; all processes call it."""

    def recent_sums(self) -> Sums:
        """The epoch's sums as of a recent step, without waiting for the steps under way."""

    def sums(self) -> Sums:
        """The epoch's sums, all steps done."""

    def reset_sums(self) -> None:
        """Start a new epoch's sums."""

    def save(self, kind: str) -> None:
        """Start saving a checkpoint as "latest" or "best"."""

    def wait_for_checkpoints(self) -> None:
        """Return when everything is on disk."""

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same run."""

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint holds: nested dicts of the engine's arrays, by the engine's names."""

    def set_state(self, saved: dict[str, Any], step: int) -> None:
        """Take the state of a checkpoint; the next step is number `step`, of an epoch without sums yet."""


class MakeTrainer(Protocol):
    """(run, data, processes) → the run before its first step."""

    def __call__(self, run: RunDescription, data: Dataset, world: World = ALONE) -> Trainer:
        """Nothing is read from or written to the workdir."""


class Engine(Protocol):
    """What an engine's package offers."""

    @property
    def Trainer(self) -> MakeTrainer:
        """Makes trainers."""

    @property
    def join(self) -> Callable[[Launch], World]:
        """(flags) → the processes of a run, of which this one becomes one."""

    @property
    def load(self) -> Callable[[str, Inference], tuple[ModelDescription, LoadedPredictor]]:
        """(checkpoint, how to run it) → what the network is, and the network."""

    @property
    def layer_rows(self) -> Callable[[ModelDescription], list[LayerRow]]:
        """The rows of the layer table."""
