"""What config.precision=auto becomes: the faster one of f32 and bf16 on a CPU, by a trial; bf16 elsewhere.

The recipe reaches the same accuracy with either, and which is faster depends on the processor: one with a
matrix unit for bf16 gains much, one with vector instructions for it may lose.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from recipe.data import Dataset
from recipe.system.errors import UserError
from recipe.training import room, workdir
from recipe.training.description import AUTO, RunDescription, describe_run
from recipe.training.engine import Engine, Trainer

WIDE, NARROW = "f32", "bf16"
SECONDS = 8.0  # after which the least turns do, where it is not clear
MOST_SECONDS = 60.0  # after which one turn does: its steps are long, or the machine is busy
LEAST_TURNS, MOST_TURNS = 3, 25
CLEAR = 1.25  # times as fast: no more turns are needed

Clock = Callable[[], float]  # seconds


def settle(
    config: ConfigDict, engine: Engine, data: Dataset, folder: Path, clock: Clock = time.perf_counter
) -> str:
    """Put a precision into a checked config that leaves it open, before its run is described.

    A run that goes on keeps the one that its workdir has recorded.

    Args:
      config: changed in place.
      engine: who will train.
      data: the dataset; a trial takes one batch of it.
      folder: the run's workdir.
      clock: tells the seconds.

    Returns:
      a line for the log about how it was chosen; "" where nothing was to be chosen.

    Raises:
      UserError: if no such run can be made.
    """
    if config.precision != AUTO:
        return ""
    if recorded := workdir.recorded_precision(folder):
        config.precision = recorded
        return ""
    config.precision, why = _choose(config, engine, data, folder, clock)
    return f"config.precision=auto takes {config.precision}: {why}"


def _choose(config: ConfigDict, engine: Engine, data: Dataset, folder: Path, clock: Clock) -> tuple[str, str]:
    """A precision, and why it is that one."""
    config = config.copy_and_resolve_references()
    config.precision = WIDE
    run = describe_run(config, data, folder)
    try:
        room.check(run, engine.layer_rows(run.model))
    except UserError:
        return NARROW, f"{WIDE} needs more memory than there is"
    run = dataclasses.replace(run, examples=run.batch_size, steps_per_epoch=1)
    few = dataclasses.replace(
        data,
        train_images=data.train_images[: run.batch_size],
        train_labels=data.train_labels[: run.batch_size],
    )
    wide = engine.Trainer(run, few)
    if not wide.on_cpu:
        return NARROW, "it computes on an accelerator"
    print(f"Trying out which of {WIDE} and {NARROW} is faster here (config.precision=auto) …", flush=True)
    narrow = engine.Trainer(dataclasses.replace(run, precision=NARROW), few)
    seconds = _trial({WIDE: wide, NARROW: narrow}, run, clock)
    best, other = sorted(seconds, key=lambda precision: seconds[precision])
    speeds = {precision: f"{run.batch_size / seconds[precision]:.0f}" for precision in seconds}
    return best, f"{speeds[best]} img/s in a trial, {other} {speeds[other]}"


def _trial(trainers: Mapping[str, Trainer], run: RunDescription, clock: Clock) -> dict[str, float]:
    """Median seconds of a training step of each trainer, which take turns. Their first one is not counted.

    Steps are those of the image size that most of the run's time goes to.
    """
    sizes = [run.image_size_of_epoch(epoch) for epoch in range(run.epochs)]
    size = max(set(sizes), key=lambda size: sizes.count(size) * (size or run.model.image_size) ** 2)
    for trainer in trainers.values():
        trainer.start_epoch(run.plan_of_epoch(0), size)
        _step(trainer, clock)  # may have to be compiled
    seconds: dict[str, list[float]] = {precision: [] for precision in trainers}
    began = clock()
    for turn in range(MOST_TURNS):
        for precision in sorted(
            trainers, reverse=turn % 2 == 1
        ):  # nobody is always behind the same other one
            seconds[precision].append(_step(trainers[precision], clock))
        medians = {precision: statistics.median(each) for precision, each in seconds.items()}
        clear = max(medians.values()) > CLEAR * min(medians.values())
        taken = clock() - began
        if taken >= MOST_SECONDS or (turn + 1 >= LEAST_TURNS and (clear or taken >= SECONDS)):
            break
    return medians


def _step(trainer: Trainer, clock: Clock) -> float:
    """The seconds of one step."""
    began = clock()
    trainer.train_steps(at_most=1)
    trainer.sums()  # waits
    return clock() - began
