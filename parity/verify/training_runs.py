"""Runs of either engine, one step or many: what levels 7 and 9 compare."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np

import flax_resnet
import flax_resnet.checkpoint
import torch_ref
import torch_ref.checkpoint
from configs import r18
from parity.arrays import join, params_tree, split, torch_arrays
from parity.budgets.reference import distance, ratio
from parity.tensors import to_numpy, to_tensor
from parity.verify.case import Case
from recipe.data import Dataset
from recipe.plan import EpochPlan
from recipe.processes.world import ALONE, World
from recipe.state_dict import COUNTER, Arrays
from recipe.training.description import RunDescription, describe_run
from recipe.training.engine import Trainer

WIDTH, BATCH, EPOCH, STEPS = 16, 32, 10, 30  # channels, images, steps of an epoch, steps of a run
LEARNING_RATE = 0.05  # a tenth, a hundredth, … of it where the reference is chaotic, see `learning_rate`
BOUND = 1e-9  # ‖a−b‖∞/‖a‖∞ of every tensor within `STEPS` float64 steps

State = dict[str, Arrays]  # "model" without counters, "momentum": by PyTorch's names, in its layout


class Engine(NamedTuple):
    """A framework's package, and the way of its checkpoints' trees to a `State` and back."""

    package: ModuleType
    suffix: str  # of its checkpoints
    to_state: Callable[[Any], State]
    from_state: Callable[[State], Any]


def _from_flax(saved: Any) -> State:
    return {"model": join(saved), "momentum": torch_arrays(saved["momentum"])}


def _to_flax(state: State) -> Any:
    momentum = {"momentum": params_tree(state["momentum"])} if state["momentum"] else {}
    return split(state["model"]) | momentum


def _from_torch(saved: Any) -> State:
    return {group: {n: to_numpy(t) for n, t in tensors.items()} for group, tensors in saved.items()}


def _to_torch(state: State) -> Any:
    return {group: {n: to_tensor(a) for n, a in arrays.items()} for group, arrays in state.items()}


ENGINES = {
    "jax": Engine(flax_resnet, flax_resnet.checkpoint.SUFFIX, _from_flax, _to_flax),
    "torch": Engine(torch_ref, torch_ref.checkpoint.SUFFIX, _from_torch, _to_torch),
}


class Batches(NamedTuple):
    """What an epoch trains on."""

    plan: EpochPlan
    image_size: int | None


@dataclasses.dataclass(frozen=True)
class Setting:
    """A run's config and data: 10 steps an epoch, lr drops within, augmentation, smaller images at first."""

    case: Case
    precision: str
    steps: int
    folder: Path
    lr: float = LEARNING_RATE
    others: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # fields of the config

    @functools.cached_property
    def run(self) -> RunDescription:
        """The default recipe at this size."""
        config = r18.get_config()
        config.seed, config.precision = self.case.seed, self.precision
        config.cpu_kernels = self.case.cpu_kernels
        config.batch_size, config.epochs = BATCH, self.steps // EPOCH
        config.optimizer.lr = self.lr
        config.resize.sizes, config.resize.starts = (24, 32), (0.0, 0.3)
        config.data.name = "digits"
        config.update_from_flattened_dict(self.others)
        return dataclasses.replace(describe_run(config, self.data, self.folder), model=self.case.description)

    @functools.cached_property
    def data(self) -> Dataset:
        """Images that can be learned: a pattern of 8×8 squares for each class, and noise.

        The remainder of 7 is dropped.
        """
        rng = np.random.default_rng(self.case.seed)
        description = self.case.description
        count, names = EPOCH * BATCH + 7, description.class_names
        labels = rng.integers(0, len(names), count).astype(np.int32)
        patterns = np.kron(rng.normal(size=(len(names), 4, 4, 3)), np.ones((1, 8, 8, 1)))
        images = 128 + 40 * patterns[labels] + 20 * rng.normal(size=(count, 32, 32, 3))
        images = images.clip(0, 255).astype(np.uint8)
        return Dataset("digits", "noise", "a generator", images, labels, images[:8], labels[:8], names,
                       tuple(description.mean), tuple(description.std))  # type: ignore[arg-type]  # fmt: skip

    def batches(self, epoch: int) -> Batches:
        """An epoch's plan and image size."""
        return Batches(self.run.plan_of_epoch(epoch), self.run.image_size_of_epoch(epoch))

    def start(self, engine: str, world: World = ALONE) -> TrainingRun:
        """A run before its first step."""
        return TrainingRun(ENGINES[engine], ENGINES[engine].package.Trainer(self.run, self.data, world))


class TrainingRun:
    """A trainer of either engine, with its state as NumPy arrays."""

    def __init__(self, engine: Engine, trainer: Trainer):
        self.engine, self.trainer = engine, trainer

    @property
    def state(self) -> State:
        """What the trainer would save, without counters, as float64."""
        return {
            group: {
                name: np.asarray(a, np.float64) for name, a in arrays.items() if not name.endswith(COUNTER)
            }
            for group, arrays in self.engine.to_state(self.trainer.get_state()).items()
        }

    @property
    def sums(self) -> Arrays:
        """The sums of the epoch that has just ended."""
        epoch, sums = self.trainer.step // EPOCH, self.trainer.sums()._asdict()
        return {f"epoch {epoch}: {name}": np.asarray(value, np.float64) for name, value in sums.items()}

    def load(self, state: State, step: int) -> Self:
        """Put a state into the trainer, by the engine's own code."""
        self.trainer.set_state(self.engine.from_state(state), step)
        return self

    def start_epoch(self, setting: Setting) -> None:
        """Give the trainer the plan of the epoch that it is in."""
        self.trainer.start_epoch(*setting.batches(self.trainer.step // EPOCH))

    def one_step(self, state: State, step: int, batches: Batches) -> State:
        """The state after one step from a given one."""
        self.load(state, step)
        self.trainer.start_epoch(*batches)
        self.trainer.train_steps(at_most=1)
        return self.state


def outcome(setting: Setting, engine: str, plans: Setting) -> Arrays:
    """What a run by another setting's plans ends in: sums of epochs, logits, the state."""
    run = setting.start(engine)
    trainer = run.trainer
    found: dict[str, np.ndarray] = {}
    for epoch in range(setting.steps // EPOCH):
        run.start_epoch(plans)
        trainer.reset_sums()
        while trainer.step < EPOCH * (epoch + 1):
            trainer.train_steps(at_most=EPOCH * (epoch + 1) - trainer.step)
        found |= run.sums
    found["logits"] = np.asarray(trainer.logits(plans.data.test_images), np.float64)
    return found | flat(run.state)


def initial_state(setting: Setting) -> State:
    """The recipe's initial weights, as PyTorch's engine has them."""
    return setting.start("torch").state


def states(setting: Setting, engine: str, first: State | None = None) -> Iterator[State]:
    """The state after every step, from the recipe's initial weights or another state."""
    run = setting.start(engine)
    if first:
        run.load(first, 0)
    for step in range(setting.steps):
        if step % EPOCH == 0:
            run.start_epoch(setting)
        run.trainer.train_steps(at_most=1)
        yield run.state


def control(setting: Setting) -> Iterator[State]:
    """PyTorch's states from initial weights that are one unit off."""
    return states(
        setting, "torch", perturbed(initial_state(setting), lambda array: np.nextafter(array, np.inf))
    )


@functools.lru_cache(maxsize=8)
def learning_rate(case: Case) -> float:
    """The highest of `LEARNING_RATE`, a tenth, a hundredth, … of it at which PyTorch is not chaotic.

    That is where PyTorch from weights that are one unit off stays within a hundredth of `BOUND` for `STEPS`
    float64 steps; the sixth if there is none. In a chaotic run a difference of 1e-9 between two engines would
    say nothing about either.
    """
    for power in range(6):
        lr = LEARNING_RATE / 10**power
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(case, "f64", STEPS, Path(folder), lr)
            pairs = zip(control(setting), states(setting, "torch"), strict=True)
            if all(worst(off, state)[0] <= BOUND / 100 for off, state in pairs):
                break
    return lr


def flat(state: State) -> Arrays:
    """All arrays by "group name"."""
    return {f"{group} {name}": array for group, arrays in state.items() for name, array in arrays.items()}


def perturbed(state: State, change: Callable[[np.ndarray], np.ndarray]) -> State:
    """A state with other weights and statistics."""
    return {"model": {n: change(a) for n, a in state["model"].items()}, "momentum": state["momentum"]}


def worst(ours: State, theirs: State) -> tuple[float, str]:
    """The largest ‖a−b‖∞/‖b‖∞ of all tensors, and whose it is; NaN is the largest."""
    a, b = flat(ours), flat(theirs)
    if a.keys() != b.keys():
        return math.inf, f"tensors that one side lacks: {', '.join(sorted(a.keys() ^ b.keys())[:3])}"
    errors = []
    for name in b:
        error = distance(a[name], b[name], "f64")
        errors.append((ratio(error, float(np.abs(b[name]).max())), name))
    return max(errors, key=lambda item: math.inf if math.isnan(item[0]) else item[0])
