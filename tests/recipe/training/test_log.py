"""The log of a run that was interrupted."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from recipe.system.errors import UserError
from recipe.training.log import ASIDE, METRICS, RunLog, read_metrics


def whole(epoch: int, **values: float) -> dict[str, Any]:
    """The record of an epoch of 10 steps."""
    others = dict.fromkeys(("lr", "train_loss", "train_acc", "test_loss", "test_acc"), 0.5)
    return {"epoch": epoch, "step": 10 * epoch, **others, **values}


def test_the_log_drops_what_an_interrupted_run_had_not_saved(tmp_path: Path):
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        log.record(whole(epoch, test_loss=math.inf))
    again = RunLog(tmp_path)
    again.resume(epochs=2)
    assert [record["epoch"] for record in again.records] == [1, 2]
    assert [record["epoch"] for record in read_metrics(tmp_path)] == [1, 2]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["test_loss"] is None


def test_tensorboard_reads_the_events(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path)
    log.open_events(0)
    log.record(whole(1, test_acc=0.25))
    log.record(whole(2, test_acc=0.75))
    again = RunLog(tmp_path)
    again.resume(epochs=1)
    again.open_events(10)  # the second epoch is done anew
    again.record(whole(2))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("test/acc")] == [(10, 0.25), (20, 0.5)]


DAMAGED = [
    b"null",
    b"[]",
    b"{}",
    b'{"epoch": 2, "st',
    json.dumps(whole(2)).encode().replace(b"lr", b"l\xff"),
    json.dumps(whole(2)).replace("test_acc", "test_axc").encode(),
    json.dumps(whole(2) | {"epoch": True}).encode(),
    json.dumps(whole(2) | {"epoch": 1}).encode(),
    json.dumps(whole(2) | {"test_acc": None}).encode(),
    json.dumps(whole(2) | {"lr": "0.5"}).encode(),
    b"[" * 100_000,
    b"9" * 5000,
    b"\x00\x01",
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_costs_itself_alone(line: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, third = (json.dumps(whole(epoch)).encode() for epoch in (1, 3))
    (tmp_path / METRICS).write_bytes(b"\n".join([first, line, third]) + b"\n")
    assert [record["epoch"] for record in read_metrics(tmp_path)] == [1, 3]
    log = RunLog(tmp_path)
    log.resume(epochs=3)
    assert (tmp_path / METRICS).read_bytes() == first + b"\n" + third + b"\n"
    assert (tmp_path / ASIDE).read_bytes() == line + b"\n"
    assert "damaged in line 2, which is now in metrics.aside.jsonl" in capsys.readouterr().out
    RunLog(tmp_path).resume(epochs=3)
    assert (tmp_path / ASIDE).read_bytes() == line + b"\n"
    assert capsys.readouterr().out == ""


def test_records_behind_the_checkpoint_are_named_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log = RunLog(tmp_path)
    for epoch in (1, 2, 3):
        log.record(whole(epoch))
    RunLog(tmp_path).resume(epochs=1)
    assert "epochs 2, 3 ended behind the checkpoint" in capsys.readouterr().out
    assert [json.loads(line)["epoch"] for line in (tmp_path / ASIDE).read_text().splitlines()] == [2, 3]


@pytest.mark.parametrize("name", [METRICS, "log.txt"])
def test_a_log_that_cannot_be_written_is_one_line_with_its_name(name: str, tmp_path: Path):
    (tmp_path / name).mkdir()
    log = RunLog(tmp_path)
    with pytest.raises(UserError, match=rf"can't write {tmp_path / name}: .*once it can be written$"):
        log.record(whole(1)) if name == METRICS else log.say("text")


def test_events_that_cannot_be_written_are_one_line_with_their_name(tmp_path: Path):
    (tmp_path / "tensorboard").touch()
    with pytest.raises(UserError, match=rf"can't write {tmp_path / 'tensorboard'}: "):
        RunLog(tmp_path).open_events(0)


def test_a_workdir_that_is_gone_is_not_made_anew_for_events(tmp_path: Path):
    with pytest.raises(UserError, match=f"can't write {tmp_path / 'run' / 'tensorboard'}: No such file"):
        RunLog(tmp_path / "run").open_events(0)
    assert not (tmp_path / "run").exists()


def test_a_record_is_on_disk_before_the_checkpoint_that_comes_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else a loss of power leaves the checkpoint alone, and its epoch is never recorded."""
    flushed: dict[str, int] = {}

    def flush(file: int) -> None:
        path = Path(f"/proc/self/fd/{file}").readlink()
        flushed[path.name] = path.stat().st_size

    monkeypatch.setattr(os, "fsync", flush)
    RunLog(tmp_path).record(whole(1))
    assert flushed == {METRICS: (tmp_path / METRICS).stat().st_size}
    again = RunLog(tmp_path)
    again.resume(epochs=0)
    assert flushed[ASIDE] == (tmp_path / ASIDE).stat().st_size > 0


@pytest.mark.parametrize("name", ["log.txt", ASIDE])
def test_a_log_is_not_written_through_a_link(name: str, tmp_path: Path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / name).symlink_to("theirs")
    (tmp_path / METRICS).write_text("damaged\n")
    with pytest.raises(UserError, match=f"can't write .*{name}: {name} is a link, no file"):
        RunLog(tmp_path).resume(epochs=1)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_metrics_in_a_pipe_are_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(UserError, match=r"metrics\.jsonl: it is a pipe, no file; move it away"):
        RunLog(tmp_path).resume(epochs=1)
