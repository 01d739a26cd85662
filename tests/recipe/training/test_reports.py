"""Metrics, logs and messages."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from recipe.system.errors import UserError, choice
from recipe.training.log import RunLog, read_metrics
from recipe.training.metrics import evaluate
from recipe.training.progress import duration


def test_evaluation_against_the_definition():
    logits = np.array([[1.0, 2.0, 0.5], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], np.float32)
    labels = np.array([1, 1, 2])
    evaluation = evaluate(logits, labels)
    first = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert math.isclose(evaluation.loss, (first + 2e4 + math.log(3)) / 3, rel_tol=1e-12)
    assert (evaluation.correct, evaluation.count) == (1, 3)
    np.testing.assert_allclose(evaluation.probabilities.sum(axis=1), 1)


def test_the_log_drops_what_an_interrupted_run_had_not_saved(tmp_path: Path):
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        log.record({"epoch": epoch, "step": 10 * epoch, "test_loss": math.inf})
    again = RunLog(tmp_path)
    again.resume(epochs=2)
    assert [record["epoch"] for record in again.records] == [1, 2]
    assert [record["epoch"] for record in read_metrics(tmp_path)] == [1, 2]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["test_loss"] is None


def test_tensorboard_reads_the_events(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path)
    log.open_events(0)
    log.record({"epoch": 1, "step": 10, "test_acc": 0.25, "lr": 0.5})
    log.record({"epoch": 2, "step": 20, "test_acc": 0.75, "lr": 0.5})
    log.close()
    again = RunLog(tmp_path)
    again.resume(epochs=1)
    again.open_events(10)  # the second epoch is done anew
    again.record({"epoch": 2, "step": 20, "test_acc": 0.5, "lr": 0.5})
    again.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("test/acc")] == [(10, 0.25), (20, 0.5)]


def test_a_wrong_name_gets_the_nearest_or_all():
    assert choice("fruit", "apple", ("apple", "pear")) == "apple"
    with pytest.raises(UserError, match="unknown fruit 'appel'; did you mean 'apple'"):
        choice("fruit", "appel", ("apple", "pear"))
    with pytest.raises(UserError, match="valid are: apple, pear"):
        choice("fruit", "xyz", ("apple", "pear"))


def test_durations_are_readable():
    assert [duration(s) for s in (4, 89, 720, 12_000)] == ["4 s", "89 s", "12 min", "3 h 20 min"]
