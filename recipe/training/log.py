"""What a run leaves behind as it goes: text, JSON lines, TensorBoard events."""

from __future__ import annotations

import io
import json
import math
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recipe.system import files, json_values, plain
from recipe.system.errors import UserError
from recipe.system.streams import silence

METRICS = "metrics.jsonl"
ASIDE = "metrics.aside.jsonl"  # lines of it that are damaged, or belong to epochs that are done anew
_MOST_BYTES = 1 << 28  # of metrics.jsonl; a record has 400
MOST_STEPS = 2**31 - 1  # what a checkpoint can count


def _number_or_none(value: Any) -> str:
    return "" if value is None else json_values.number(value)


_RULES = {
    "epoch": json_values.integer(1, MOST_STEPS),
    "step": json_values.integer(1, MOST_STEPS),
    "test_acc": json_values.number,
    **dict.fromkeys(("lr", "train_loss", "train_acc", "test_loss"), _number_or_none),
}


class RunLog:
    """The log of one workdir: lines for people, a record per epoch, TensorBoard events."""

    def __init__(self, workdir: Path):
        self.records: list[dict[str, Any]] = []  # of the epochs done
        self.heard = True  # whether what is said can still be printed
        self._workdir = workdir
        self._text = workdir / "log.txt"
        self._metrics = workdir / METRICS
        self._events: _TensorBoard | None = None

    def resume(self, *, epochs: int) -> None:
        """Keep the records of the first epochs; set aside later ones, which are done anew, and damaged lines.

        Raises:
          UserError: if the workdir can't be written.
        """
        records, damaged = _read(self._workdir)
        self.records = [record for record in records if record["epoch"] <= epochs]
        later = records[len(self.records) :]
        aside = [*damaged.values(), *(_line(record).encode() for record in later)]
        if aside:
            lines = b"".join(line.rstrip(b"\n") + b"\n" for line in aside)
            _append(self._workdir / ASIDE, lines, flush=True)
        try:
            files.write_text(self._metrics, "".join(_line(record) for record in self.records))
        except OSError as error:
            raise unwritable(self._metrics, error) from error
        if damaged:
            self.say(f"{self._metrics}: damaged in {_numbers('line', damaged)}, which {_are_in(damaged)}")
        if later:
            epochs_later = [record["epoch"] for record in later]
            self.say(
                f"{self._metrics}: {_numbers('epoch', epochs_later)} ended behind the checkpoint that the "
                f"run goes on from; done anew, and what was recorded {_are_in(later)}"
            )

    def open_events(self, step: int) -> None:
        """Write TensorBoard events from here on; what an interrupted run logged behind `step` is dropped."""
        self._events = _TensorBoard(self._workdir / "tensorboard", step)

    def say(self, text: str) -> None:
        """Print text, above the progress bar if there is one, and append it to log.txt."""
        if self.heard:
            try:
                tqdm.write(text)
                sys.stdout.flush()
            except OSError:  # a pipe's reader or a terminal is gone
                self.heard = False
                silence(sys.stdout)
        _append(self._text, f"{text}\n".encode(errors="backslashreplace"))

    def record(self, record: dict[str, Any]) -> None:
        """Append an epoch's record to metrics.jsonl, flushed to disk, and the TensorBoard events.

        On disk it has to be before the checkpoint of its epoch, from which on nothing would make it again.

        Raises:
          UserError: if that can't be written.
        """
        self.records.append(record)
        _append(self._metrics, _line(record).encode(), flush=True)
        if self._events:
            self._events.record(record)


class NoLog(RunLog):
    """The log of a process that writes none, since process 0 of the run does."""

    def __init__(self) -> None:
        super().__init__(Path())

    def resume(self, *, epochs: int) -> None:
        """Do nothing."""

    def open_events(self, step: int) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def record(self, record: dict[str, Any]) -> None:
        """Record nothing."""


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The whole records in a workdir's metrics.jsonl, by epoch; lines that are damaged are left out."""
    return _read(workdir)[0]


def _read(workdir: Path) -> tuple[list[dict[str, Any]], dict[int, bytes]]:
    """The whole records in metrics.jsonl, and the other lines by their number, counted from 1."""
    path = workdir / METRICS
    records: list[dict[str, Any]] = []
    damaged: dict[int, bytes] = {}
    try:
        content = plain.read(path, _MOST_BYTES) if path.exists() else b""
    except ValueError as error:
        raise UserError(f"can't read {path}: {error}; move it away") from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json_values.parse(line)
            json_values.check(record, _RULES, "a record")
            if records and record["epoch"] <= records[-1]["epoch"]:
                raise ValueError("it comes behind a later one")
        except (ValueError, UserError):
            damaged[number] = line
        else:
            records.append(record)
    return records, damaged


def _append(path: Path, content: bytes, *, flush: bool = False) -> None:
    try:
        with os.fdopen(plain.open_own(path), "ab") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def _numbers(what: str, numbers: Iterable[int]) -> str:
    """Some numbers in words, such as "line 3" or "epochs 2, 3"."""
    listed = list(numbers)
    return f"{what}{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"


def _are_in(lines: Sized) -> str:
    return f"{'are' if len(lines) > 1 else 'is'} now in {ASIDE}"


def unwritable(path: Path, error: OSError) -> UserError:
    """The error for a file of a run that can't be written."""
    return UserError(
        f"can't write {path}: {error.strerror or error}; the same command goes on from the newest "
        "checkpoint, once it can be written"
    )


def _line(record: dict[str, Any]) -> str:
    # JSON has no NaN
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(finite) + "\n"


class _TensorBoard:
    """Scalars as event files, in TensorBoard's own format (tensorboardX would load PyTorch).

    They are written at once: TensorBoard's `EventFileWriter` writes in a thread, which on a full disk prints
    a traceback and tells nobody.
    """

    def __init__(self, folder: Path, step: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary, self._format = event_pb2, summary_pb2, RecordWriter
        now = time.time()
        self._path = folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        try:
            files.make_folder(folder, below=folder.parent)  # a workdir that is gone is not made anew
        except OSError as error:
            raise unwritable(folder, error) from error
        self._write(event_pb2.Event(wall_time=now, file_version="brain.Event:2"))
        # tells TensorBoard to forget what an interrupted run logged from this step on
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(wall_time=now, step=step + 1, session_log=start))

    def record(self, record: dict[str, Any]) -> None:
        values = [
            self._summary.Summary.Value(tag=re.sub("^(train|test)_", r"\1/", name), simple_value=value)
            for name, value in record.items()
            if isinstance(value, float)
        ]
        summary = self._summary.Summary(value=values)
        self._write(self._event.Event(wall_time=time.time(), step=record["step"], summary=summary))

    def _write(self, event: Any) -> None:
        content = io.BytesIO()
        self._format(content).write(event.SerializeToString())
        _append(self._path, content.getvalue())
