"""One run, however many processes and devices compute it: the whole proof (make processes)."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from parity.__main__ import main as parity
from parity.budgets.reference import K, distance
from recipe.state_dict import Arrays
from recipe.training import checkpoints
from recipe.training.log import read_metrics
from tests.processes.runs import (
    BOUND,
    SUFFIX,
    assert_same_records,
    furthest,
    outcome,
    start,
    train,
)

pytestmark = pytest.mark.processes
F64 = "--config.precision=f64"
GRID = [("jax", count, devices) for count in (1, 2, 4) for devices in (1, 2, 4)]
GRID += [("torch", count, 1) for count in (1, 2, 4)]
MINUTE = 60.0


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that several tests look at."""
    return tmp_path_factory.mktemp("runs")


def run(folder: Path, engine: str, count: int, devices: int, precision: str) -> Path:
    """The workdir of an undisturbed run, which is made once."""
    workdir = folder / f"{engine}-{count}-{devices}-{precision}"
    if not workdir.exists():
        said = train(engine, count, workdir, f"--config.precision={precision}", devices=devices)
        assert (f"{count * devices} × cpu" in said) == (count * devices > 1)
    return workdir


@pytest.mark.parametrize(("name", "count", "devices"), GRID)
def test_in_float64_every_split_is_the_run_of_one_device(name: str, count: int, devices: int, folder: Path):
    """30 steps with augmentation, batch norm and two lr drops; PyTorch in one process is what all are."""
    reference = run(folder, "torch", 1, 1, "f64")
    workdir = run(folder, name, count, devices, "f64")
    error, tensor = furthest(outcome(workdir, name), outcome(reference, "torch"))
    assert error < BOUND, tensor
    assert_same_records(workdir, reference, rel=BOUND)


@pytest.mark.parametrize(("name", "count", "devices"), [("jax", 2, 1), ("jax", 4, 2), ("torch", 2, 1)])
def test_in_float32_every_split_is_as_near_to_float64_as_pytorch(
    name: str, count: int, devices: int, folder: Path
):
    """Within K times the error of PyTorch's own float32, in the norm of all tensors."""
    exact = outcome(run(folder, "torch", 1, 1, "f64"), "torch")
    theirs = outcome(run(folder, "torch", 1, 1, "f32"), "torch")
    ours = outcome(run(folder, name, count, devices, "f32"), name)
    assert _error(ours, exact) <= K * _error(theirs, exact)


def _error(found: Arrays, exact: Arrays) -> float:
    return max(distance(found[name], exact[name], "f64") / float(np.abs(exact[name]).max()) for name in exact)


@pytest.mark.parametrize(
    "route",
    [
        [("jax", 2), ("jax", 1), ("jax", 4)],
        [("torch", 2), ("torch", 1), ("torch", 4)],
        [("jax", 2), ("torch", 1), ("torch", 4)],
        [("torch", 4), ("jax", 2), ("jax", 1)],
    ],
)
def test_a_run_goes_on_with_other_numbers_of_processes_and_in_the_other_engine(
    route: list[tuple[str, int]], folder: Path, tmp_path: Path
):
    """Stopped twice in the middle of an epoch, and converted where the engine changes."""
    workdir = tmp_path / "run"
    stops = [4, 17, None]
    for leg, ((name, count), stop) in enumerate(zip(route, stops, strict=True)):
        if leg and route[leg - 1][0] != name:
            assert parity(["convert", str(workdir), str(workdir)]) == 0
        steps = stop or 30
        with start(name, count, workdir, F64, program=_STOP.format(step=stop) if stop else "") as run_:
            statuses = run_.wait()
            assert (statuses[0] == 0) == (stop is None), run_.said()
            assert (f"Interrupted at step {steps} " in run_.said()) == (stop is not None), run_.said()
    last = route[-1][0]
    reference = run(folder, "torch", 1, 1, "f64")
    error, tensor = furthest(outcome(workdir, last), outcome(reference, "torch"))
    assert error < BOUND, tensor
    assert_same_records(workdir, reference, rel=BOUND)


# every process is asked to stop at the same step, so that the lag of asking does not blur which one it is
_STOP = """
import sys
import recipe.cli
from recipe.training.loop import TrainingLoop
TrainingLoop._stop_asked = property(lambda self: self._trainer.step >= {step})
import flax_resnet.trainer, torch_ref.trainer
for package in (flax_resnet, torch_ref):
    trainer = package.trainer.Trainer
    def any_process(self, asked, *, now=False, made=trainer.any_process):
        return made(self, asked, now=True)
    trainer.any_process = any_process
sys.exit(recipe.cli.main())
"""


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_process_that_dies_or_hangs_ends_the_others_within_a_minute_and_is_named(
    name: str, number: signal.Signals, victim: int, folder: Path, tmp_path: Path
):
    """Then another number of processes goes on, and ends where an undisturbed run ends."""
    workdir = tmp_path / "run"
    with start(name, 3, workdir, F64, "--config.batch_size=30") as lost:
        lost.wait_for("Epoch 1/3: train")
        lost.send(victim, number)
        began = time.monotonic()
        survivors = [p for i, p in enumerate(lost.started) if name == "torch" or i != victim]
        for process in survivors if number == signal.SIGKILL or name == "jax" else ():
            assert process.wait(MINUTE) != 0
        lost.wait_for(f"error: process {victim}")
        assert time.monotonic() - began < MINUTE
        said = lost.said()
    assert "Traceback" not in said.partition("torch/distributed")[0], said
    train(name, 1, workdir, F64, "--config.batch_size=30")
    undisturbed = folder / f"{name}-30"
    if not undisturbed.exists():
        train(name, 1, undisturbed, F64, "--config.batch_size=30")
    error, tensor = furthest(outcome(workdir, name), outcome(undisturbed, name))
    assert error < BOUND, tensor
    assert_same_records(workdir, undisturbed, rel=BOUND)
    assert not list(workdir.rglob(".*tmp*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_a_signal_to_one_process_stops_all_at_one_step(name: str, number: signal.Signals, tmp_path: Path):
    with start(name, 2, tmp_path / "run", "--config.epochs=40") as asked:
        asked.wait_for("Epoch 1/40: train")
        asked.send(1, number)
        statuses = asked.wait()
        assert statuses == ([130, 130] if name == "jax" else [1]), asked.said()
        said = asked.said()
    assert said.count("Interrupted at step ") == 1
    step = int(said.partition("Interrupted at step ")[2].split()[0])
    newest = checkpoints.newest(tmp_path / "run" / checkpoints.FOLDER / checkpoints.LATEST, SUFFIX[name])
    assert newest is not None
    assert checkpoints.step_of(newest) == step
    assert len(read_metrics(tmp_path / "run")) == step // 10


def test_a_failure_of_process_0_is_the_last_word_of_all(tmp_path: Path):
    """Here another run already has the workdir, which process 0 alone sees."""
    with start("jax", 1, tmp_path / "run", "--config.epochs=100") as holder:
        holder.wait_for("Epoch 1/100: train")
        with start("jax", 2, tmp_path / "run", "--config.epochs=100") as refused:
            statuses = refused.wait()
            said = [path.read_text(encoding="utf-8") for path in refused.outputs]
    assert all(statuses)
    assert all("another process trains in" in words for words in said)


def test_a_coordinator_that_is_not_there_is_an_error_within_a_stated_time(tmp_path: Path):
    began = time.monotonic()
    with start("jax", 2, tmp_path / "run", only=(1,)) as alone:
        assert alone.wait()[0] != 0
        time.sleep(1)  # the one line is written by the process that reads what JAX's C++ code says
        assert "error: not all processes of the run came together within a minute" in alone.said()
        assert "stack trace" not in alone.said()
    assert time.monotonic() - began < 2 * MINUTE
