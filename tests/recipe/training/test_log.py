"""The log of a run that was interrupted."""

from __future__ import annotations

import json
import math
from pathlib import Path

from recipe.training.log import RunLog, read_metrics


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
