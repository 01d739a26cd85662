"""Levels 7 and 9: whole training runs, free-running, re-synchronised, and switching engines on the way."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import flax_resnet
import flax_resnet.checkpoint
import flax_resnet.train_state
import torch_ref
import torch_ref.checkpoint
import torch_ref.train_state
from configs import r18
from parity.arrays import Arrays, join, params_tree, split, to_numpy, to_tensor, torch_arrays
from parity.budgets import near_ties as decisions
from parity.budgets.reference import PERTURBATIONS, UNIT, K, distance, ratio
from parity.convert.files import read, write
from parity.convert.layouts import OURS
from parity.verify.case import Case
from parity.verify.result import Check, Finding, first_over
from recipe.data import Dataset
from recipe.plan import EpochPlan, plan_of_epoch
from recipe.resize import size_of_epoch
from recipe.schedule import Schedule
from recipe.training import checkpoints
from torch_ref.train_state import COUNTER

ENGINES: dict[str, Any] = {"jax": flax_resnet, "torch": torch_ref}
SUFFIX = {"jax": flax_resnet.checkpoint.SUFFIX, "torch": torch_ref.checkpoint.SUFFIX}
WIDTH, BATCH, STEPS, LONG_STEPS = 16, 32, 30, 100
LEARNING_RATE = 0.05  # a tenth, a hundredth, … of it where the reference is chaotic, see `learning_rate`
BOUND = 1e-9  # ‖a−b‖∞/‖a‖∞ of every tensor within `STEPS` float64 steps
DRIFT = 10.0  # times the drift of PyTorch from itself with weights that are one unit off
SYNCHRONISED = {"f32": 5, "bf16": 2}  # steps
# What `options` sets apart from the default, and the family of the mistake not to heed it: all that a trainer
# reads but the schedule's name, which level 5 goes through.
OPTIONS: dict[str, tuple[Any, str]] = {
    "seed": (5, "state"),
    "label_smoothing": (0.1, "loss"),
    "optimizer.momentum": (0.8, "momentum"),
    "optimizer.nesterov": (True, "momentum"),
    "optimizer.weight_decay": (2e-3, "weight decay"),
    "schedule.warmup": (0.3, "learning rate"),
    "schedule.warmup_start": (0.5, "learning rate"),
    "schedule.drops": ((0.4, 0.8), "learning rate"),
    "schedule.drop_factor": (0.3, "learning rate"),
    "augment.pad": (3, "pipeline"),
    "augment.pad_mode": ("reflect", "pipeline"),
    "augment.cutout": (8, "pipeline"),
}
PER_DISPATCH = 3  # steps of JAX, by a loop, where PyTorch makes one at a time

State = dict[str, Arrays]  # "model" without counters, "momentum"


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
    def config(self) -> Any:
        """The default recipe at this size."""
        config = r18.get_config()
        config.seed, config.precision = self.case.seed, self.precision
        config.cpu_kernels = self.case.cpu_kernels
        config.batch_size, config.epochs = BATCH, self.steps // 10
        config.optimizer.lr = self.lr
        config.resize.sizes, config.resize.starts = (24, 32), (0.0, 0.3)
        config.data.name = "digits"
        config.update_from_flattened_dict(self.others)
        return config

    @functools.cached_property
    def data(self) -> Dataset:
        """Images that can be learned: a pattern of 8×8 squares for each class, and noise.

        The remainder of 7 is dropped.
        """
        rng = np.random.default_rng(self.case.seed)
        description = self.case.description
        count, names = 10 * BATCH + 7, description.class_names
        labels = rng.integers(0, len(names), count).astype(np.int32)
        patterns = np.kron(rng.normal(size=(len(names), 4, 4, 3)), np.ones((1, 8, 8, 1)))
        images = 128 + 40 * patterns[labels] + 20 * rng.normal(size=(count, 32, 32, 3))
        images = images.clip(0, 255).astype(np.uint8)
        return Dataset("digits", "noise", "a generator", images, labels, images[:8], labels[:8], names,
                       tuple(description.mean), tuple(description.std))  # type: ignore[arg-type]  # fmt: skip

    def trainer(self, engine: str) -> Any:
        """A run before its first step."""
        schedule = Schedule.from_config(self.config, 10)
        return ENGINES[engine].Trainer(self.config, self.case.description, schedule, self.data, self.folder)

    def start_epoch(self, trainer: Any) -> None:
        """Give a trainer the plan of the epoch that it is in."""
        trainer.start_epoch(self.plan(trainer.step // 10), self.image_size(trainer.step // 10))

    def image_size(self, epoch: int) -> int | None:
        """Pixels of an epoch's images."""
        return size_of_epoch(self.config.resize, epoch, self.config.epochs)

    def plan(self, epoch: int) -> Any:
        """An epoch's plan."""
        return plan_of_epoch(self.config, self.data.train_images, epoch)


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
            pairs = zip(_control(setting), _states(setting, "torch"), strict=True)
            if all(_worst(off, state)[0] <= BOUND / 100 for off, state in pairs):
                break
    return lr


class Batches(NamedTuple):
    """What an epoch trains on."""

    plan: EpochPlan
    image_size: int | None


def check_free(case: Case) -> Iterator[Check]:
    """Level 7: float64 free-running, then float32 and bfloat16 from the same state before every step."""
    steps = STEPS if case.quick else LONG_STEPS
    with tempfile.TemporaryDirectory() as folder:
        alone = single_steps(case, Path(folder))
        yield alone
        if alone.passed:  # a wrong step would only be a wrong trajectory
            yield options(case, Path(folder))
            yield free_running(case, steps, Path(folder))
    for precision, count in SYNCHRONISED.items():
        with tempfile.TemporaryDirectory() as folder:
            yield synchronised(case, precision, count, Path(folder))


def free_running(case: Case, steps: int, folder: Path) -> Check:
    """Both engines from the recipe's initial weights, each on its own.

    Beyond `STEPS`, what counts is the drift of a control: PyTorch from weights that are one unit off.
    """
    setting = Setting(case, "f64", steps, folder, learning_rate(case))
    ours, theirs = _states(setting, "jax"), _states(setting, "torch")
    control = _control(setting) if steps > STEPS else None
    findings, names, drift = [], [], 0.0
    for step, (our, their) in enumerate(zip(ours, theirs, strict=True), 1):
        error, name = _worst(our, their)
        if control:
            drift = max(drift, _worst(next(control), their)[0])
        findings.append(Finding(f"step {step}", error, BOUND if step <= STEPS else max(BOUND, DRIFT * drift)))
        names.append(name)
    family = cause = ""
    first = next((i for i, finding in enumerate(findings) if finding.ratio > 1), None)
    if first is not None:
        family = "momentum" if names[first].startswith("momentum") else "state"
        cause = f"at step {first + 1} {names[first]} differs most; see the checks of a single step"
    width = case.description.width
    name = f"{steps} free-running steps, width {width}, lr {setting.lr:g}, drops at {_drops(setting)}"
    return Check(7, name, "f64", "of the largest element", tuple(findings), family, cause)


def options(case: Case, folder: Path) -> Check:
    """Two epochs with `OPTIONS` away from their defaults, and what a trainer tells: sums and logits.

    JAX makes several steps in one program, and evaluates in batches of which the last is not full.
    """
    others = {name: value for name, (value, _) in OPTIONS.items()}
    setting = Setting(case, "f64", 20, folder, learning_rate(case), others)
    looping = others | {"steps_per_dispatch": PER_DISPATCH, "eval_batch_size": 3}
    ours = _told(dataclasses.replace(setting, others=looping), "jax", setting)
    theirs = _told(setting, "torch", setting)
    findings = []
    for name in theirs:
        error, _ = _worst({"": {name: ours[name]}}, {"": {name: theirs[name]}})
        findings.append(Finding(name, error, BOUND))
    family = cause = ""
    if first_over(findings):
        family, cause = _option_not_heeded(setting, ours, theirs)
    name = f"20 steps, JAX's {PER_DISPATCH} at a time, {len(OPTIONS)} options set"
    return Check(7, name, "f64", "of the largest element", tuple(findings), family, cause)


def _told(setting: Setting, engine: str, plans: Setting) -> Arrays:
    """What a trainer's run by another setting's plans ends in: sums of epochs, logits, the state."""
    trainer = setting.trainer(engine)
    found: dict[str, np.ndarray] = {}
    for epoch in range(setting.steps // 10):
        plans.start_epoch(trainer)
        trainer.reset_sums()
        while trainer.step < 10 * (epoch + 1):
            trainer.train_steps(at_most=10 * (epoch + 1) - trainer.step)
        found |= _sums(trainer)
    found["logits"] = np.asarray(trainer.logits(plans.data.test_images), np.float64)
    return found | _flat(_state(trainer))


def _sums(trainer: Any) -> Arrays:
    """What a trainer tells at the end of an epoch."""
    epoch = trainer.step // 10
    return {f"epoch {epoch}: {n}": np.asarray(v, np.float64) for n, v in trainer.sums()._asdict().items()}


def _option_not_heeded(setting: Setting, ours: Arrays, theirs: Arrays) -> tuple[str, str]:
    """The option without which the other engine, PyTorch first, gives a wrong one's numbers."""
    state = _worst({"": _states_of(ours)}, {"": _states_of(theirs)})
    if state[0] <= BOUND:
        return "state", "the steps are right; what the trainer tells of them is not"
    if _worst({"": _told(setting, "jax", setting)}, {"": theirs})[0] <= BOUND:
        return "state", f"{PER_DISPATCH} steps in one program are not what single steps are"
    for engine, wrong, words in (("torch", ours, ""), ("jax", theirs, "in PyTorch: ")):
        for name, (_, family) in OPTIONS.items():
            others = {other: value for other, value in setting.others.items() if other != name}
            without = _told(dataclasses.replace(setting, others=others), engine, setting)
            if _worst({"": without}, {"": wrong})[0] <= BOUND:
                return family, f"{words}config.{name} is not heeded"
    return "unknown", "no single option explains it"


def _states_of(told: Arrays) -> Arrays:
    """Without what a trainer tells besides."""
    return {name: array for name, array in told.items() if name.startswith(("model", "momentum"))}


def single_steps(case: Case, folder: Path) -> Check:
    """Single float64 steps from PyTorch's state, in the first epoch and at the lr drops, with the cause."""
    setting = Setting(case, "f64", STEPS, folder)
    ours, theirs = setting.trainer("jax"), setting.trainer("torch")
    findings: list[Finding] = []
    family = cause = ""
    initial, state = _state(ours), _start(setting)
    error, name = _worst({"model": initial["model"]}, {"model": state["model"]})
    findings.append(Finding("initial weights", error, BOUND))
    if error > BOUND:
        family, cause = "state", f"{name} of a new network differs most"
    for step in (0, 1, 2, 14, 15, 22):
        batches = Batches(setting.plan(step // 10), setting.image_size(step // 10))
        our, their = _step(ours, state, step, batches), _step(theirs, state, step, batches)
        error, name = _worst(our, their)
        findings.append(Finding(f"step {step + 1}", error, BOUND))
        if not error <= BOUND and not cause:
            family, cause = _cause(ours, theirs, state, step, batches, our, their)
            cause = f"{name} differs most: {cause}"
        state = their
    return Check(
        7, "single steps from one state", "f64", "of the largest element", tuple(findings), family, cause
    )


def _cause(
    ours: Any, theirs: Any, state: State, step: int, batches: Batches, our: State, their: State
) -> tuple[str, str]:
    """What one engine must have done for its result: each mistake is made with the other engine."""
    for words, wrong in (("", our), ("in PyTorch: ", their)):
        still = {n for n in state["model"] if np.array_equal(state["model"][n], wrong["model"][n])}
        if still and all("running" in name for name in still):
            return "running statistics", f"{words}{sorted(still)[0]} is not updated"
    for words, wrong, engine in (("", our, theirs), ("in PyTorch: ", their, ours)):
        for family, what, attempt in _attempts(engine, state, step, batches):
            if _worst(attempt(), wrong)[0] <= BOUND:
                return family, f"{words}{what}"
    return "unknown", "no known mistake gives these numbers; what one step is made of is checked above"


def _attempts(
    engine: Any, state: State, step: int, batches: Batches
) -> list[tuple[str, str, Callable[[], State]]]:
    """Steps with one mistake each: family, what it is, and the state that it ends in."""
    run = functools.partial(functools.partial, _step, engine)
    attempts: list[tuple[str, str, Callable[[], State]]] = [
        ("state", "the momentum was not transferred", run({**state, "momentum": {}}, step, batches)),
        ("pipeline", "the batch of the step after", run(state, step, _rolled(batches, 1))),
        ("pipeline", "the batch of the step before", run(state, step, _rolled(batches, -1))),
        ("pipeline", "images keep their size", run(state, step, batches._replace(image_size=None))),
    ]
    for other in {0, step - 1, step + 1} - {-1, step}:
        # the plan is turned so that the other step has this one's batch
        attempt = run(state, other, _rolled(batches, step - other))
        attempts.append(("learning rate", f"the learning rate of step {other + 1}", attempt))
    return attempts


def _rolled(batches: Batches, by: int) -> Batches:
    plan = dataclasses.asdict(batches.plan)
    turned = EpochPlan(**{name: np.roll(rows, -by, axis=0) for name, rows in plan.items()})
    return batches._replace(plan=turned)


def synchronised(case: Case, precision: str, count: int, folder: Path) -> Check:
    """One step at a time from PyTorch's state; the budget is PyTorch's own error in that step.

    In float32 its doubtful decisions are turned, see parity/budgets/near_ties.py.
    """
    setting, exact = (Setting(case, p, STEPS, folder) for p in (precision, "f64"))
    ours, theirs, high = setting.trainer("jax"), setting.trainer("torch"), exact.trainer("torch")
    state, batches, rng = _start(setting), Batches(setting.plan(0), None), np.random.default_rng(case.seed)
    findings = []

    def noise(array: np.ndarray) -> np.ndarray:
        return (array * (1 + UNIT[precision] * rng.uniform(-0.5, 0.5, array.shape))).astype(np.float32)

    for step in range(count):
        our, their = _step(ours, state, step, batches), _step(theirs, state, step, batches)
        allowed: dict[str, float] = {}
        doubtful: AbstractContextManager[object] = nullcontext()
        if precision == "f32":
            here = functools.partial(_step, state=state, step=step, batches=batches)
            doubtful = decisions.uncertain(here, theirs, high, step)
        for _ in range(PERTURBATIONS):
            noisy = _perturbed(state, noise)
            low = _flat(_step(theirs, noisy, step, batches))
            with doubtful:
                exactly = _flat(_step(high, noisy, step, batches))
            for name in exactly:
                error = K * distance(low[name], exactly[name], precision)
                allowed[name] = max(allowed.get(name, 0.0), error)
        a, b = _flat(our), _flat(their)
        findings += [
            Finding(f"step {step + 1}: {name}", distance(a[name], b[name], precision), allowed[name])
            for name in b
        ]
        state = their
    unit = "relative norm" if precision == "bf16" else "largest element"
    return Check(7, f"{count} steps, each from PyTorch's state", precision, unit, tuple(findings))


def check_switching(case: Case) -> Iterator[Check]:
    """Level 9: runs that change engines through a converted checkpoint, against runs that do not."""
    routes = {"jax → torch": [("jax", 7), ("torch", STEPS)], "torch → jax": [("torch", 15), ("jax", STEPS)]}
    if not case.quick:
        routes["back and forth"] = [("jax", 10), ("torch", 14), ("jax", 22), ("torch", STEPS)]
    findings, bad = [], []
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(case, "f64", STEPS, Path(folder), learning_rate(case))
        whole = _switching(setting, [("torch", STEPS)])
        for name, legs in routes.items():
            route = dataclasses.replace(setting, folder=Path(folder) / name.replace(" ", "_"))
            error, where = _worst(_switching(route, legs), whole)
            findings.append(Finding(name, error, BOUND))
            if findings[-1].ratio > 1:
                bad.append(f"{name}: {where} differs most")
    name = f"{STEPS} steps with changes of engine, width {case.description.width}"
    family = "state" if bad else ""
    yield Check(9, name, "f64", "of the largest element", tuple(findings), family, "; ".join(bad))


def _switching(setting: Setting, legs: list[tuple[str, int]]) -> State:
    """Train in one engine after the other; converted files carry the state, and the epoch's sums so far."""
    latest = setting.folder / checkpoints.FOLDER / checkpoints.LATEST
    converted: Path | None = None
    sums: dict[str, np.ndarray] = {}
    for engine, end in legs:
        trainer = setting.trainer(engine)
        if converted:
            trainer.restore(converted)
        setting.start_epoch(trainer)
        while trainer.step < end:
            if trainer.step % 10 == 0:
                setting.start_epoch(trainer)
                trainer.reset_sums()
            trainer.train_steps(at_most=1)
            if trainer.step % 10 == 0:
                sums |= _sums(trainer)
        trainer.save(checkpoints.LATEST)
        trainer.wait_for_checkpoints()
        other = "torch" if engine == "jax" else "jax"
        converted = latest / f"{end}{SUFFIX[other]}"
        write(converted, read(latest / f"{end}{SUFFIX[engine]}"), other, OURS)
    return _state(trainer) | {"sums": sums}


def _states(setting: Setting, engine: str, start: State | None = None) -> Iterator[State]:
    """The state after every step, from the recipe's initial weights or another state."""
    trainer = setting.trainer(engine)
    if start:
        _load(trainer, start, 0)
    for step in range(setting.steps):
        if step % 10 == 0:
            setting.start_epoch(trainer)
        trainer.train_steps(at_most=1)
        yield _state(trainer)


def _control(setting: Setting) -> Iterator[State]:
    """PyTorch's states from initial weights that are one unit off."""
    return _states(setting, "torch", _perturbed(_start(setting), lambda array: np.nextafter(array, np.inf)))


def _step(trainer: Any, state: State, step: int, batches: Batches) -> State:
    _load(trainer, state, step)
    trainer.start_epoch(*batches)
    trainer.train_steps(at_most=1)
    return _state(trainer)


def _start(setting: Setting) -> State:
    """The recipe's initial weights, as PyTorch's side has them."""
    return _state(setting.trainer("torch"))


def _load(trainer: Any, state: State, step: int) -> None:
    """Put a state into a trainer of either engine, by the engine's own code."""
    if isinstance(trainer, flax_resnet.Trainer):
        tree = split(state["model"])
        if state["momentum"]:
            tree["momentum"] = params_tree(state["momentum"])
        trainer.state = flax_resnet.train_state.from_saved(tree, step, trainer.state)
    else:
        tensors = {group: {n: to_tensor(a) for n, a in arrays.items()} for group, arrays in state.items()}
        torch_ref.train_state.from_saved(tensors, trainer.model, trainer.optimizer)
    trainer.step = step
    trainer.reset_sums()


def _state(trainer: Any) -> State:
    """What a trainer would save, without counters, as float64."""
    if isinstance(trainer, flax_resnet.Trainer):
        tree = flax_resnet.train_state.to_saved(trainer.state)
        return {"model": _floats(join(tree)), "momentum": _floats(torch_arrays(tree["momentum"]))}
    saved = torch_ref.train_state.to_saved(trainer.model, trainer.optimizer)
    return {group: _floats({n: to_numpy(t) for n, t in tensors.items()}) for group, tensors in saved.items()}


def _floats(arrays: Arrays) -> Arrays:
    return {name: np.asarray(a, np.float64) for name, a in arrays.items() if not name.endswith(COUNTER)}


def _flat(state: State) -> Arrays:
    return {f"{group} {name}": array for group, arrays in state.items() for name, array in arrays.items()}


def _perturbed(state: State, change: Callable[[np.ndarray], np.ndarray]) -> State:
    return {"model": {n: change(a) for n, a in state["model"].items()}, "momentum": state["momentum"]}


def _worst(ours: State, theirs: State) -> tuple[float, str]:
    """The largest ‖a−b‖∞/‖b‖∞ of all tensors, and whose it is; NaN is the largest."""
    a, b = _flat(ours), _flat(theirs)
    if a.keys() != b.keys():
        return math.inf, f"tensors that one side lacks: {', '.join(sorted(a.keys() ^ b.keys())[:3])}"
    errors = []
    for name in b:
        error = distance(a[name], b[name], "f64")
        errors.append((ratio(error, float(np.abs(b[name]).max())), name))
    return max(errors, key=lambda item: math.inf if math.isnan(item[0]) else item[0])


def _drops(setting: Setting) -> str:
    return " and ".join(str(step) for step in Schedule.from_config(setting.config, 10).boundaries)
