"""Checkpoints with orbax: plain nested dicts of arrays, and a JSON record of model and config."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flax_resnet.naming import dotted, leaves
from recipe import integrity
from recipe.checkpoints import BEST, FOLDER, LATEST, unreadable
from recipe.errors import UserError

Tree = dict[str, Any]
SUFFIX = ""  # a checkpoint is a folder


class CheckpointWriter:
    """Writes latest and best checkpoints of a workdir, asynchronously and atomically.

    Latest and best are kept by a manager each: one manager that keeps the best N may delete the latest.
    """

    def __init__(self, workdir: Path, record: dict[str, Any]):
        self._record = record
        self._managers = {
            kind: ocp.CheckpointManager(
                (workdir / FOLDER / kind).absolute(),
                item_names=("state", "record"),
                options=ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True),
            )
            for kind in (LATEST, BEST)
        }

    def save(self, kind: str, step: int, tree: Tree, progress: dict[str, Any]) -> None:
        """Start saving, unless this step is saved already.

        The arrays are copied first, since the next training step reuses their memory.
        """
        manager = self._managers[kind]
        if step in manager.all_steps():
            return
        arrays = jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)
        manager.save(step, args=_items({**self._record, "progress": progress}, arrays), force=True)

    def wait(self) -> None:
        """Return when everything is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the threads."""
        self.wait()
        for manager in self._managers.values():
            manager.close()


def write(path: Path, record: dict[str, Any], tree: Tree) -> None:
    """Write one checkpoint to `path`, which must not exist, as a run's writer would."""
    handler = ocp.CompositeCheckpointHandler(
        state=ocp.StandardCheckpointHandler(), record=ocp.JsonCheckpointHandler()
    )
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(path.absolute(), args=_items(record, tree))


def read(path: Path) -> tuple[dict[str, Any], Tree]:
    """Return a checkpoint's record and its state as NumPy arrays, whatever devices wrote it.

    Raises:
      UserError: if `path` is a PyTorch checkpoint, is damaged, or is no checkpoint.
    """
    if path.is_file():
        raise UserError(
            f"{path} is a file, but JAX checkpoints are folders; a PyTorch one needs --config.engine=torch, "
            f"or to be converted: python -m parity convert {path} {path.with_suffix('')}"
        )
    handler = ocp.CompositeCheckpointHandler(
        state=ocp.PyTreeCheckpointHandler(), record=ocp.JsonCheckpointHandler()
    )
    try:
        with _one_error_only(), ocp.Checkpointer(handler) as checkpointer:
            shapes = checkpointer.metadata(path.absolute()).item_metadata["state"].tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            restored = checkpointer.restore(
                path.absolute(),
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeRestore(restore_args=as_numpy), record=ocp.args.JsonRestore()
                ),
            )
    except Exception as error:  # orbax and tensorstore raise many types for a damaged folder
        raise unreadable(path, error) from error
    return integrity.check(restored["record"], _digests(restored["state"]), path), restored["state"]


def _items(record: dict[str, Any], tree: Tree) -> ocp.args.Composite:
    sealed = integrity.seal(record, _digests(tree))
    return ocp.args.Composite(state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(sealed))


def _digests(tree: Tree) -> dict[str, str]:
    return {
        dotted(path): integrity.digest(
            leaf.dtype.name, leaf.shape, np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        )
        for path, leaf in leaves(tree)
    }


class _PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that, once closed, ignores late reports instead of raising in the reporter's thread."""

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return None if self.is_closed() else super().call_soon_threadsafe(*args, **kwargs)


class _PatientPolicy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = _PatientLoop


@contextlib.contextmanager
def _one_error_only() -> Iterator[None]:
    """Let the first unreadable array be the only one that is heard of.

    orbax closes its event loop after the first error, while tensorstore's threads still report on the
    other arrays: without this, each prints "Event loop is closed" with a traceback.
    """
    policy = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_PatientPolicy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(policy)
