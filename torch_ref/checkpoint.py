"""Checkpoints as one safe file each: tensors, and a JSON record of model and config."""

from __future__ import annotations

import argparse
import io
import json
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipe.system import integrity, json_values, torch_files
from recipe.system.errors import Damaged, UserError
from recipe.system.files import atomic_path
from recipe.system.pickles import TooMuch
from recipe.training import writer
from recipe.training.checkpoints import check_record, unreadable

SUFFIX = ".pt"  # a checkpoint is a file
# Training loops leave such numbers, and their flags, in their files; making one runs no code of the file's.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_ARRAY: Any = np.zeros(0).__reduce__()[0]
SAFE_SINCE = "2.10"  # earlier ones can be made to run code: CVE-2025-32434 and CVE-2026-24747
HARMLESS: list[Any] = [
    argparse.Namespace,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    (_ARRAY, "numpy.core.multiarray._reconstruct"),
    (_ARRAY, "numpy._core.multiarray._reconstruct"),
    *(np.ndarray, np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")),
]
Tree = dict[str, dict[str, Tensor]]  # "model", and where there is a run "momentum": tensors by name


class CheckpointWriter(writer.CheckpointWriter):
    """Writes the checkpoints of a workdir; see recipe.training.writer."""

    suffix = SUFFIX

    def write(self, path: Path, record: dict[str, Any], tree: Tree) -> None:
        """Write one checkpoint, atomically."""
        write(path, record, tree, below=self.workdir)

    def not_finite(self, tree: Tree) -> list[str]:
        """The names of the tensors that hold NaN or infinity."""
        return not_finite(tree)


def write(path: Path, record: dict[str, Any], tree: Tree, *, below: Path | None = None) -> None:
    """Write one checkpoint, atomically; see `save`."""
    sealed = integrity.seal(record, _digests(tree))
    save(path, {**tree, "record": json.dumps(sealed)}, below=below)


def save(path: Path, content: dict[str, Any], *, below: Path | None = None) -> None:
    """`torch.save`, atomically.

    Args:
      path: of the file; folders that are missing are made.
      content: what it holds.
      below: a folder that is not made: see `files.atomic_path`.

    Raises:
      OSError: if it can't be written. (PyTorch's own writer does not say that the disk is full.)
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path, below=below) as temporary:
        temporary.write_bytes(buffer.getvalue())  # a view would outlive the buffer when that fails


def read(path: Path) -> tuple[dict[str, Any], Tree]:
    """Return a checkpoint's record and its nested dicts of CPU tensors. No code in the file is run.

    Raises:
      UserError: if `path` is a JAX checkpoint, is damaged, or is no checkpoint.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, but PyTorch checkpoints are files; a JAX one needs --config.engine=jax, "
            f"or to be converted: python -m parity convert {path} {path}{SUFFIX}"
        )
    content = load(path)
    if not isinstance(content, dict) or not isinstance(content.get("record"), str):
        raise Damaged(
            f"{path} is no checkpoint of this project: it has no record; for one of another project see "
            f"python -m parity inspect {path}"
        )
    return opened(content, path)


def load(path: Path) -> Any:
    """`torch.load` without running any code from the file.

    Raises:
      UserError: if the file wants to run code, is damaged or takes much more than its size (see
        `recipe.system.torch_files`), or if PyTorch is too old to keep it from that.
    """
    if torch.__version__ < SAFE_SINCE:  # which PyTorch compares as versions
        raise UserError(
            f"{path} was not opened: PyTorch {torch.__version__} can be made to run code from such a file "
            "(CVE-2025-32434, CVE-2026-24747); install PyTorch 2.10 or newer"
        )
    try:
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings(action="ignore"):
            torch_files.check_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            torch_files.check_tensors(content, path, _stored)
            return content
    except TooMuch as error:
        raise torch_files.too_much(path, error) from error
    except Exception as error:  # torch, zipfile and pickle raise many types for a damaged file
        if code := re.search(r"GLOBAL ([\w.]+)|(?=TorchScript)", str(error)):
            raise torch_files.would_run(path, code[1] or "TorchScript") from error
        reason = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
        raise unreadable(path, pickle.UnpicklingError(reason[1]) if reason else error) from error


def opened(content: dict[str, Any], path: Path) -> tuple[dict[str, Any], Tree]:
    """Split what a checkpoint file holds into its checked record and its nested dicts of tensors."""
    tree = {name: value for name, value in content.items() if name != "record"}
    try:
        record, digests = json_values.parse(content["record"]), _digests(tree)
    except (ValueError, AttributeError) as error:
        raise unreadable(path, error) from error
    return check_record(integrity.check(record, digests, path), path), tree


def _stored(value: Any) -> int | None:
    """The bytes that a tensor's values take in memory; None for what is no tensor."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    return value.nbytes if isinstance(value, np.ndarray) else None


def not_finite(tree: Tree) -> list[str]:
    """The names of the tensors in nested dicts that hold NaN or infinity."""
    return [
        f"{group}.{name}"
        for group, tensors in tree.items()
        for name, tensor in tensors.items()
        if not tensor.isfinite().all()
    ]


def digest(tensor: Tensor) -> str:
    """The SHA-256 of a tensor on the CPU; see recipe.system.integrity."""
    data = tensor.reshape(-1).contiguous().view(torch.uint8).numpy()
    return integrity.digest(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), data)


def _digests(tree: Tree) -> dict[str, str]:
    return {
        f"{group}.{name}": digest(tensor)
        for group, tensors in tree.items()
        for name, tensor in tensors.items()
    }
