"""The rules by which a workdir belongs to a run, by its config.json, and to one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recipe.system import files, json_values, plain
from recipe.system.errors import UserError
from recipe.system.terminal import LONGEST, printable, shown
from recipe.training import checkpoints
from recipe.training.description import PRECISIONS, RunDescription
from recipe.training.settings import FREE, fields

CONFIG = "config.json"
DIGEST = "data.digest"  # in config.json: which pictures a folder held
LOCK = ".lock"  # who trains here, or did last


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a workdir, if need be, and keep other processes from training in it meanwhile.

    The lock is the system's, which takes it from a process that ends, however it ends; the file stays. Where
    a file system knows no such locks, nobody is kept out.

    Raises:
      UserError: if another process has the lock, or the workdir can't be written.
    """
    try:
        files.make_folder(folder)
        _refuse_links(folder)
        # without a buffer: what can't be written is not tried again at its end
        file = os.fdopen(plain.open_own(folder / LOCK), "ab+", buffering=0)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            time.sleep(0.2)  # it may be about to write who it is
            file.seek(0)
            holder = printable(file.read().decode(errors="replace").strip())
            raise UserError(
                f"another process trains in {folder}{f' ({holder})' if holder else ''}: wait until it has "
                "ended, or choose another --workdir"
            ) from error
        except OSError:  # a network's file system, for instance
            pass
        try:
            file.truncate(0)
            file.write(f"pid {os.getpid()} on {platform.node()}".encode())
        except OSError as error:
            raise _unwritable(folder, error) from error
        _sweep(folder)
        yield


class Place:
    """Remembers which folder a workdir's path leads to, to notice when that is no longer so.

    Else a run whose disk was unmounted, or whose workdir was moved away, would make a new one there. One
    that is not there at first is remembered once it is.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._identity = self._identify()

    def require(self) -> None:
        """Raise a `UserError` if the workdir is gone from its path."""
        now = self._identify()
        self._identity = self._identity or now
        if now is None or now != self._identity:
            raise UserError(
                f"the workdir {self._folder} is gone: its disk was unmounted, or it was moved or deleted; "
                "once it is back, the same command goes on from its newest checkpoint"
            )

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self._folder.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def _refuse_links(folder: Path) -> None:
    """Raise a `UserError` if checkpoints would be written, and old ones deleted, somewhere else."""
    kept = folder / checkpoints.FOLDER
    for path in (kept, kept / checkpoints.LATEST, kept / checkpoints.BEST):
        if path.is_symlink():
            raise UserError(
                f"{path} is a link, and a run deletes what it finds there: put a folder in its place, or "
                "name a workdir on the other disk with --workdir"
            )


def _sweep(folder: Path) -> None:
    """Delete what killed runs left half-written, in a workdir that is locked."""
    files.sweep(folder)
    for kind in (checkpoints.LATEST, checkpoints.BEST):
        saved = folder / checkpoints.FOLDER / kind
        files.sweep(saved)
        for path in saved.glob("*.orbax-checkpoint-tmp*"):  # of runs whose checkpoints orbax's manager wrote
            shutil.rmtree(path, ignore_errors=True)


def check_or_create(run: RunDescription) -> None:
    """Make a new workdir this run's, or check that it is already.

    Raises:
      UserError: if the workdir holds a run whose config differs in more than `FREE` fields, or whose pictures
        were others.
    """
    theirs = _recorded(run.workdir)
    if theirs is None:
        write_config(run)
        return
    ours = dict(fields(_content(run)))
    if theirs.get(DIGEST) != ours.get(DIGEST):
        raise UserError(
            f"{run.workdir} belongs to a run with other pictures than there are now in {ours['data.dir']}; "
            "choose another --workdir"
        )
    different = [
        f"{name} ({_shown(theirs, name)} there, {value} here)"
        for name, value in ours.items()
        if theirs.get(name) != value and not name.startswith(FREE)
    ]
    if different:
        raise UserError(
            f"{run.workdir} belongs to a run with other {', '.join(different)}; choose another --workdir"
        )


def recorded_precision(folder: Path) -> str | None:
    """The precision of the run that a workdir holds; None where it holds none.

    Raises:
      UserError: if the run's config is damaged.
    """
    recorded = _recorded(folder)
    if recorded is None:
        return None
    if recorded.get("precision") not in PRECISIONS:
        raise UserError(
            f"{folder / CONFIG} is damaged: it has the precision {_shown(recorded, 'precision')}; choose "
            "another --workdir"
        )
    return str(recorded["precision"])


def _recorded(folder: Path) -> dict[str, Any] | None:
    """The fields of the config in a workdir, by their dotted names; None where there is none.

    Raises:
      UserError: if it is damaged.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    try:
        return dict(fields(json_values.read(path)))
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}; choose another --workdir") from error


def write_layers(run: RunDescription, table: str) -> None:
    """Write the layer table of the run's network into its workdir.

    Raises:
      UserError: if that can't be done.
    """
    try:
        files.write_text(run.workdir / "layers.txt", table + "\n")
    except OSError as error:
        raise _unwritable(run.workdir, error) from error


def write_config(run: RunDescription) -> None:
    """Write the run's config into its workdir.

    Raises:
      UserError: if that can't be done.
    """
    try:
        files.write_text(run.workdir / CONFIG, json.dumps(_content(run), indent=2) + "\n")
    except OSError as error:
        raise _unwritable(run.workdir, error) from error


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"can't write to the workdir {folder}: {error.strerror}")


def _shown(theirs: dict[str, Any], name: str) -> str:
    """Another run's value of a field, from its file."""
    value = theirs.get(name, "absent")
    return printable(value) if isinstance(value, str) and len(value) < LONGEST else shown(value)


def _content(run: RunDescription) -> dict[str, Any]:
    """The config, and of a folder of pictures what is in it, since its name says nothing about that."""
    content: dict[str, Any] = json.loads(run.config_json)
    if run.data_digest:
        content["data"]["digest"] = run.data_digest
    return content
