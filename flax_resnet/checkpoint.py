"""Checkpoints with orbax: plain nested dicts of arrays, and a JSON record of model and config."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flax_resnet.naming import by_dotted_path
from flax_resnet.quiet_orbax import first_error_only
from flax_resnet.runtime import start_backend
from recipe.system import integrity, json_values, plain
from recipe.system.errors import Damaged, UserError
from recipe.system.files import atomic_folder
from recipe.training import writer
from recipe.training.checkpoints import FOLDER, check_record, unreadable

Tree = dict[str, Any]
SUFFIX = ""  # a checkpoint is a folder
# what the system says of a file that can't be written
_SAID = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.EMFILE,
)
MULTIPLE, SMALL = 20, 1 << 20  # of a folder's size, and bytes: what its arrays may have, which are compressed


class CheckpointWriter(writer.CheckpointWriter):
    """Writes the checkpoints of a workdir; see recipe.training.writer."""

    suffix = SUFFIX

    def __init__(self, workdir: Path, record: dict[str, Any]):
        _check_name(workdir)
        super().__init__(workdir, record)

    def save(self, kind: str, step: int, tree: Tree, progress: dict[str, Any]) -> None:
        """Start saving copies of the arrays, since the next training step reuses their memory."""
        super().save(kind, step, jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree), progress)

    def write(self, path: Path, record: dict[str, Any], tree: Tree) -> None:
        """Write one checkpoint, atomically."""
        with atomic_folder(path, below=self.workdir) as new:
            write(new, record, tree)

    def not_finite(self, tree: Tree) -> list[str]:
        """The names of the arrays that hold NaN or infinity."""
        return not_finite(tree)


def write(path: Path, record: dict[str, Any], tree: Tree) -> None:
    """Write one checkpoint to `path`, which must not exist, as a run's writer would.

    Raises:
      OSError: if it can't be written.
    """
    _check_name(path)
    start_backend()
    alone = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        state=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        record=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    )
    threads = set(threading.enumerate())
    with first_error_only():
        try:
            with ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
                checkpointer.save(path.absolute(), args=_items(record, tree))
        except (OSError, ValueError) as error:  # tensorstore raises ValueError when a disk is full
            for thread in set(threading.enumerate()) - threads:
                with contextlib.suppress(Exception):  # orbax's threads raise their error when joined
                    thread.join(timeout=1)  # it still writes to a folder that has to go
            raise _os_error(error) from error


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
    if not (path / "record").exists() and (path / "_CHECKPOINT_METADATA").exists():
        raise UserError(
            f"{path} is an orbax checkpoint of another project: restore it there, and give the tree to "
            "parity.to_torch if it has this project's names"
        )
    if not (path / "record").exists():
        raise Damaged(f"{path} is no checkpoint; a run's are in <workdir>/{FOLDER}/latest and …/best")
    _check_name(path)
    start_backend()  # orbax asks it which process this is
    alone = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        state=ocp.PyTreeCheckpointHandler(multiprocessing_options=alone),
    )
    try:
        for file in path.rglob("*"):
            if not file.is_dir():
                plain.check(file)
        sealed = json_values.read(path / "record" / "metadata")  # by orbax's JSON handler
        with first_error_only(), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            shapes = checkpointer.metadata(path.absolute()).item_metadata["state"].tree
            _check_size(shapes, path)
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            restored = checkpointer.restore(
                path.absolute(),
                args=ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=as_numpy)),
            )
    except UserError:
        raise
    except Exception as error:  # orbax and tensorstore raise many types for a damaged folder
        raise unreadable(path, error) from error
    record = integrity.check(sealed, _digests(restored["state"]), path)
    return check_record(record, path), restored["state"]


def _alone() -> ocp.options.MultiprocessingOptions:
    """Let this process save or read by itself: each holds the whole state, and none waits for the others."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})


def _check_name(path: Path) -> None:
    """Raise a `UserError` for a path that tensorstore can't take."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"{path}: JAX checkpoints can only be in folders whose names are UTF-8; "
            "rename it, or choose another"
        ) from None


def _os_error(error: OSError | ValueError) -> OSError:
    """What the system said, where tensorstore quotes it somewhere in a `ValueError` of many lines."""
    if isinstance(error, OSError):
        return error
    said = str(error)
    number = next((number for number in _SAID if os.strerror(number) in said), None)
    if number is None:
        return OSError((said.splitlines() or ["unknown"])[0][:200])
    return OSError(number, os.strerror(number))


def not_finite(tree: Tree) -> list[str]:
    """The names of the arrays in a tree that hold NaN or infinity."""
    return [name for name, leaf in by_dotted_path(tree).items() if not np.isfinite(leaf).all()]


def _check_size(shapes: Any, path: Path) -> None:
    """Raise `Damaged` if the arrays are said to be far larger than the folder that holds them.

    An array is nothing but its shape where it has no values, or the same ones throughout.
    """
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    said = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))
    if said > MULTIPLE * stored + SMALL:
        raise Damaged(
            f"{path} was not read: it has {stored:,} bytes, and its arrays are said to have {said:,}; take "
            "another copy of it"
        )


def _items(record: dict[str, Any], tree: Tree) -> ocp.args.Composite:
    sealed = integrity.seal(record, _digests(tree))
    return ocp.args.Composite(state=ocp.args.StandardSave(tree), record=ocp.args.JsonSave(sealed))


def _digests(tree: Tree) -> dict[str, str]:
    return {name: integrity.digest_of(leaf) for name, leaf in by_dotted_path(tree).items()}
