"""Saves the checkpoints of a run beside the training: the same for both engines, which write the arrays."""

from __future__ import annotations

import abc
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recipe.system import files
from recipe.system.errors import UserError
from recipe.training.checkpoints import BEST, FOLDER, LATEST, step_of

KEPT = {LATEST: 2}  # so that a damaged one costs no more than the way from the one before; else 1


class Diverged(UserError):
    """A state that is not finite, and was not saved."""


class CheckpointWriter(abc.ABC):
    """Writes the checkpoints of a workdir: asynchronously, atomically, and no state that is not finite.

    Args:
      workdir: the run's.
      record: what every checkpoint says of the run.
    """

    suffix: str  # how names end

    def __init__(self, workdir: Path, record: dict[str, Any]):
        self._record = record
        self.workdir = workdir.absolute()
        # Python waits for it before it exits, but orbax can't save any more by then: call `wait` before
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._saving: Future[None] | None = None

    @abc.abstractmethod
    def write(self, path: Path, record: dict[str, Any], tree: Any) -> None:
        """Write one checkpoint to a path that may exist, atomically; a workdir that is gone is not made anew.

        Raises:
          OSError: if that fails.
        """

    @abc.abstractmethod
    def not_finite(self, tree: Any) -> list[str]:
        """The names of the tensors that hold NaN or infinity."""

    def save(self, kind: str, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """Start saving, unless this step is saved already. The arrays must be copies.

        Raises:
          UserError: if the save before this one failed; then nothing is saved. The next call tries again.
          Diverged: if an array is not finite; nothing is saved.
        """
        self.wait()
        path = self.workdir / FOLDER / kind / f"{step}{self.suffix}"
        if path.exists():
            return
        if names := self.not_finite(tree):
            raise Diverged(f"{names[0]} holds NaN or infinity at step {step}")
        self._saving = self._thread.submit(
            self._replace, path, {**self._record, "progress": progress}, tree, KEPT.get(kind, 1)
        )

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
          UserError: if the last save failed; once.
        """
        saving, self._saving = self._saving, None
        if saving:
            saving.result()

    def _replace(self, path: Path, record: dict[str, Any], tree: Any, count: int) -> None:
        """Write one checkpoint, then delete all but the newest of its folder, in whichever engine's form."""
        try:
            self.write(path, record, tree)
            prune(path.parent, count)
        except OSError as error:
            raise UserError(
                f"can't save {path}: {error.strerror or error}; the same command goes on from the checkpoint "
                "before it, once it can be written"
            ) from error


def prune_run(workdir: Path) -> None:
    """Delete the checkpoints that a kill or a loss of power has left too many.

    Raises:
      OSError: if one can't be deleted.
    """
    for kind in (LATEST, BEST):
        if (folder := workdir / FOLDER / kind).is_dir():
            prune(folder, KEPT.get(kind, 1))


def prune(folder: Path, count: int) -> None:
    """Delete the checkpoints of all but the `count` highest steps in a folder."""
    found = {path: step for path in folder.iterdir() if (step := step_of(path)) is not None}
    kept = sorted(set(found.values()))[-count:]
    for path, step in found.items():
        if step not in kept:
            files.remove(path)
