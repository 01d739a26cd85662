"""Checkpoints as one safe file each: tensors, and a JSON record of model and config."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import torch

from recipe.checkpoints import FOLDER, step_of, unreadable
from recipe.errors import UserError
from recipe.files import atomic_path


class CheckpointWriter:
    """Writes latest and best checkpoints of a workdir, asynchronously and atomically."""

    def __init__(self, workdir: Path, record: dict[str, Any]):
        self._record = json.dumps(record)
        self._folder = workdir / FOLDER
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, kind: str, step: int, tree: dict[str, Any]) -> None:
        """Start saving, unless this step is saved already. The tensors must be copies."""
        self.wait()
        path = self._folder / kind / f"{step}.pt"
        if not path.exists():
            self._thread = threading.Thread(target=self._write, args=(path, {**tree, "record": self._record}))
            self._thread.start()

    def wait(self) -> None:
        """Return when everything is on disk."""
        if self._thread:
            self._thread.join()
            self._thread = None
        if self._error:
            raise self._error

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            with atomic_path(path) as temporary:
                torch.save(content, temporary)
            for other in path.parent.glob("*.pt"):
                if other != path and step_of(other) is not None:
                    other.unlink()
        except Exception as error:  # raised by the next wait(), in the thread that can handle it
            self._error = error


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a checkpoint's record and its nested dicts of CPU tensors. No code in the file is run.

    Raises:
      UserError: if `path` is a JAX checkpoint, is damaged, or is no checkpoint.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, but PyTorch checkpoints are files; for a JAX one add --config.engine=jax"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, zipfile and pickle raise many types for a damaged file
        raise unreadable(path, error) from error
    if not isinstance(content, dict) or not {"record", "model", "step"} <= content.keys():
        raise UserError(f"{path} is no checkpoint of this project: it has no record, model and step")
    return json.loads(content.pop("record")), content
