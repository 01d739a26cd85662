"""A run in several processes is the same run; the whole proof is in test_proof.py (make processes)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from recipe.training.log import read_metrics
from tests.processes.runs import BOUND, assert_same_records, furthest, outcome, start, train

F64 = "--config.precision=f64"


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_two_processes_walk_the_path_of_one_and_one_goes_on_where_they_stopped(name: str, tmp_path: Path):
    """SIGTERM to the second process stops both at the same step; then one process ends the run."""
    train(name, 1, tmp_path / "one", F64)
    with start(name, 2, tmp_path / "two", F64) as run:
        run.wait_for("Epoch 1/3: train")
        run.send(1, signal.SIGTERM)
        run.wait()
        assert "Interrupted at step" in run.said(), run.said()
        assert "2 × cpu" in run.said()
        assert 1 <= len(read_metrics(tmp_path / "two")) < 3
    assert "going on at step" in train(name, 1, tmp_path / "two", F64)
    error, tensor = furthest(outcome(tmp_path / "two", name), outcome(tmp_path / "one", name))
    assert error < BOUND, tensor
    assert_same_records(tmp_path / "two", tmp_path / "one", rel=BOUND)


def test_processes_with_different_configs_are_refused_and_leave_nothing(tmp_path: Path):
    own = [["--config.seed=0"], ["--config.seed=1"]]
    with start("jax", 2, tmp_path / "run", own=own) as run:
        assert run.wait() == [2, 2]
        lines = [line for line in run.said().splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert all("process 1 of 2 has another config.seed than process 0: 1, not 0" in line for line in lines)
    assert not (tmp_path / "run").exists()
