"""The data mesh, on CPU devices that XLA simulates; each count of them needs a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.checkpoint import read
from flax_resnet.naming import by_dotted_path
from recipe.training import checkpoints
from recipe.training.log import read_metrics

ROOT = Path(__file__).parent.parent.parent
TINY = [
    "--config=configs/r18.py:digits",
    "--config.model.arch=resnet20",
    "--config.model.width=4",
    "--config.batch_size=400",  # 3 steps an epoch
    "--config.eval_batch_size=90",  # not a multiple of 4
    "--config.log.tensorboard=false",
    "--config.optimizer.lr=0.001",  # far below chaos, which would enlarge rounding
]
STOP_AFTER_STEP_4 = """
import os, signal, sys
import flax_resnet, main
train_steps = flax_resnet.Trainer.train_steps
def interrupted(self, at_most):
    train_steps(self, at_most)
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGINT)
flax_resnet.Trainer.train_steps = interrupted
sys.exit(main.main())
"""


def train(
    workdir: Path, devices: int, *flags: str, program: tuple[str, ...] = ("main.py",)
) -> subprocess.CompletedProcess[str]:
    simulated = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, *program, *TINY, f"--workdir={workdir}", *flags]
    return subprocess.run(command, cwd=ROOT, env=simulated, capture_output=True, text=True)


def state(workdir: Path) -> dict[str, np.ndarray]:
    newest = checkpoints.newest(workdir / checkpoints.FOLDER / checkpoints.LATEST, "")
    assert newest is not None
    return by_dotted_path(read(newest)[1])


def assert_same_path(one: Path, other: Path) -> None:
    """Both runs end in the same state, up to rounding in float64.

    Devices add their partial sums in another order. n additions change a sum by at most n·2⁻⁵³ of its
    terms' size: 5e-11 for the n ≤ 400·32·32 of a batch statistic or the first kernel's gradient, whose terms
    cancel to a part of their size. With room for 20 times that, 1e-9 (1.3e-11 measured, for momentum.conv1;
    the median is 8e-15). Statistics of each device's own quarter would differ by about 1 in 10.
    """
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        tolerance = 1e-9 * np.abs(array).max()
        np.testing.assert_allclose(theirs[name], array, rtol=0, atol=tolerance, err_msg=name)
    for a, b in zip(read_metrics(one), read_metrics(other), strict=True):
        assert (a["train_acc"], a["test_acc"]) == (b["train_acc"], b["test_acc"])
        assert b["train_loss"] == pytest.approx(a["train_loss"], rel=1e-9)
        assert b["test_loss"] == pytest.approx(a["test_loss"], rel=1e-9)


@pytest.mark.processes
def test_four_devices_walk_the_path_of_one(tmp_path: Path):
    for devices in (1, 4):
        done = train(tmp_path / str(devices), devices, "--config.precision=f64", "--config.epochs=2")
        assert done.returncode == 0, done.stderr
        assert ("4 × cpu" in done.stdout) == (devices == 4)
    assert_same_path(tmp_path / "1", tmp_path / "4")


def test_a_run_of_four_devices_goes_on_with_one(tmp_path: Path):
    """Stopped in the middle of the second epoch."""
    flags = "--config.precision=f64", "--config.epochs=2"
    stopped = train(tmp_path / "resumed", 4, *flags, program=("-c", STOP_AFTER_STEP_4))
    assert stopped.returncode == 130, stopped.stderr
    for name in ("resumed", "whole"):
        done = train(tmp_path / name, 1, *flags)
        assert done.returncode == 0, done.stderr
        assert ("going on at step 4" in done.stdout) == (name == "resumed")
    assert_same_path(tmp_path / "whole", tmp_path / "resumed")


def test_a_batch_that_cannot_be_split_is_refused_in_one_line(tmp_path: Path):
    done = train(tmp_path / "run", 4, "--config.batch_size=130")
    assert done.returncode == 2
    assert not (tmp_path / "run").exists()  # where the right batch size would meet the wrong one's config
    assert done.stderr.splitlines()[-1] == (
        "error: config.batch_size=130 can't be split evenly over 4 devices; choose a multiple of 4"
    )
