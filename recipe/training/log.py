"""What a run leaves behind as it goes: text, JSON lines, TensorBoard events."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from recipe.system import files

METRICS = "metrics.jsonl"


class RunLog:
    """The log of one workdir: lines for people, a record per epoch, TensorBoard events."""

    def __init__(self, workdir: Path):
        self.records: list[dict[str, Any]] = []  # of the epochs done
        self._workdir = workdir
        self._text = workdir / "log.txt"
        self._metrics = workdir / METRICS
        self._events: _TensorBoard | None = None

    def resume(self, *, epochs: int) -> None:
        """Keep the records of the first epochs and drop later ones, which were logged but not saved."""
        self.records = [record for record in read_metrics(self._workdir) if record["epoch"] <= epochs]
        files.write_text(self._metrics, "".join(_line(record) for record in self.records))

    def open_events(self, step: int) -> None:
        """Write TensorBoard events from here on; what an interrupted run logged behind `step` is dropped."""
        self._events = _TensorBoard(self._workdir / "tensorboard", step)

    def say(self, text: str) -> None:
        """Print text, above the progress bar if there is one, and append it to log.txt."""
        tqdm.write(text)
        with self._text.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def record(self, record: dict[str, Any]) -> None:
        """Append an epoch's record to metrics.jsonl and the TensorBoard events."""
        self.records.append(record)
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(_line(record))
        if self._events:
            self._events.record(record)

    def close(self) -> None:
        """Flush everything."""
        if self._events:
            self._events.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The records in a workdir's metrics.jsonl, up to a line that a kill cut short."""
    path = workdir / METRICS
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def _line(record: dict[str, Any]) -> str:
    # JSON has no NaN
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
    return json.dumps(finite) + "\n"


class _TensorBoard:
    """Scalars as event files, by TensorBoard's own writer (tensorboardX would load PyTorch)."""

    def __init__(self, folder: Path, step: int):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder))
        # tells TensorBoard to forget what an interrupted run logged from this step on
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))

    def record(self, record: dict[str, Any]) -> None:
        values = [
            self._summary.Summary.Value(tag=re.sub("^(train|test)_", r"\1/", name), simple_value=value)
            for name, value in record.items()
            if isinstance(value, float)
        ]
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._event.Event(wall_time=time.time(), step=record["step"], summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
