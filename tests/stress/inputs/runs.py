"""Readers of what a run finds in its workdir and on its command line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from configs import r18
from recipe import cli
from recipe.data import Dataset
from recipe.system.errors import UserError
from recipe.training import settings, workdir
from recipe.training.description import describe_run
from recipe.training.log import ASIDE, METRICS, RunLog, _line
from tests.stress.inputs.reader import Reader, fingerprint

_RECORD = {
    "epoch": 1, "step": 4,
    "lr": 0.02, "train_loss": 2.5, "train_acc": 0.25, "test_loss": 2.25, "test_acc": 0.3,
    "images_per_second": 300.5, "seconds": 4.5, "dataset": "digits",
}  # fmt: skip


def _data() -> Dataset:
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40, dtype=np.int32) % 2
    return Dataset(
        "digits", "digits", "a generator", images[:32], labels[:32], images[32:], labels[32:], ("a", "b"),
        (0.5,) * 3, (0.25,) * 3,
    )  # fmt: skip


def _config() -> Any:
    config = r18.get_config("digits")
    config.batch_size = 16
    return config


def _make_metrics(folder: Path) -> None:
    records = [{**_RECORD, "epoch": epoch, "step": 4 * epoch} for epoch in (1, 2, 3)]
    (folder / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def _lines(path: Path) -> list[bytes]:
    if not path.is_file() or path.stat().st_size > 1 << 30:
        return []
    return [line for line in path.read_bytes().split(b"\n") if line.strip()]


def _resume(folder: Path) -> str:
    """Go on from epoch 2: every line is kept in one of two files."""
    before = _lines(folder / METRICS)
    log = RunLog(folder)
    log.resume(epochs=2)
    after = _lines(folder / METRICS), _lines(folder / ASIDE)
    assert len(after[0]) + len(after[1]) == len(before), "a line is lost"
    assert len(after[0]) == len(log.records)
    again = RunLog(folder)
    again.resume(epochs=2)
    kept = [list(map(_line, records)) for records in (log.records, again.records)]
    assert kept[0] == kept[1], "what was written is not what was read"
    for name in (ASIDE, "log.txt"):
        (folder / name).unlink(missing_ok=True)
    return fingerprint(log.records)


def _make_workdir(folder: Path) -> None:
    workdir.check_or_create(describe_run(_config(), _data(), folder))


def _check_workdir(folder: Path) -> dict[str, Any]:
    """Whose workdir it is: only of a run with the same fields, but for those that are free."""
    workdir.check_or_create(describe_run(_config(), _data(), folder))
    said = dict(settings.fields(json.loads((folder / workdir.CONFIG).read_bytes())))
    ours = dict(settings.fields(_config().to_dict()))
    kept = {
        name: value for name, value in said.items() if name in ours and not name.startswith(settings.FREE)
    }
    return kept


_FLAGS = [
    "--config=configs/r18.py:digits", "--config.optimizer.lr=0.1", "--config.epochs=3",
    "--config.model.width=4",
    "--config.batch_size=16", "--config.schedule.drops=(0.5,0.75)", "--config.model.arch=resnet20",
    "--config.augment.flip=true", "--config.name=r18", "--workdir=runs/a", "--mode=train",
]  # fmt: skip
_FIELDS = {
    "optimizer.momentum": 0.8, "epochs": 4, "seed": 1, "resize.sizes": [16, 32], "resize.starts": [0.0, 0.5],
    "checkpoint.minutes": 10.0, "model.stem": "cifar", "data.fallback": "none", "label_smoothing": 0.1,
}  # fmt: skip


def _make_flags(folder: Path) -> None:
    """A file's lines stand for arguments, and one of JSON for fields with values of any kind."""
    (folder / "flags.txt").write_text("\n".join(_FLAGS), encoding="utf-8")
    (folder / "fields.json").write_text(json.dumps(_FIELDS), encoding="utf-8")


def _parse_flags(folder: Path) -> str:
    """What main.py makes of its flags; in a process of its own, since flags are parsed once."""
    arguments = (folder / "flags.txt").read_bytes().split(b"\n")
    try:
        values = json.loads((folder / "fields.json").read_bytes()).items()
        texts = [
            f"--config.{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in values
        ]
        arguments += [os.fsencode(text) for text in texts]
    except Exception as error:  # no object
        raise UserError("no command line") from error
    if any(b"\0" in argument for argument in arguments):
        raise UserError("no command line")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape") as said:
        child = os.fork()
        if not child:
            status = 1
            try:
                status, text = _parse(arguments)
                said.write(text)
                said.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        text = said.read()
    if status == 2:
        raise UserError(text)
    assert status == 0, text or f"status {status}"
    return text


def _parse(arguments: list[bytes]) -> tuple[int, str]:
    sys.argv = ["main.py", *map(os.fsdecode, arguments)]
    try:
        cli.parse()
        config = cli.CONFIG.value
        settings.check(config)
        describe_run(config, _data(), Path("runs"))
        return 0, fingerprint(config.to_json())
    except UserError as error:
        return 2, str(error)
    except BaseException:
        import traceback

        return 3, traceback.format_exc()


READERS = (
    Reader("metrics.jsonl", _make_metrics, _resume, checked=False),
    Reader("config.json of a workdir", _make_workdir, _check_workdir),
    Reader("--config.…=…", _make_flags, _parse_flags, checked=False, nodes=False),
)
