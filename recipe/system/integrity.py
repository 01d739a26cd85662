"""A SHA-256 for every tensor and one for the record, so that a flipped bit is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recipe.system.errors import Damaged
from recipe.system.terminal import printable


def digest(dtype: str, shape: tuple[int, ...], data: Any) -> str:
    """The SHA-256 of a tensor, as hexadecimal digits.

    Args:
      dtype: its name, such as "float32".
      shape: its shape.
      data: a buffer of its values in C order.
    """
    sha = hashlib.sha256(f"{dtype} {tuple(shape)}\n".encode())
    sha.update(data)
    return sha.hexdigest()


def digest_of(array: np.ndarray) -> str:
    """The SHA-256 of an array."""
    return digest(array.dtype.name, array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def seal(record: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Return a record with the digests of its tensors and of itself under "sha256"."""
    sealed = {**json.loads(json.dumps(record)), "sha256": {"tensors": dict(sorted(digests.items()))}}
    sealed["sha256"]["record"] = _record_digest(sealed)
    return sealed


def check(sealed: Any, digests: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Return the record that `seal` got.

    Raises:
      Damaged: if the record or a tensor is not what was sealed; names every tensor that is not.
    """
    seals = sealed.get("sha256") if isinstance(sealed, dict) else None
    if not isinstance(seals, dict) or not isinstance(seals.get("tensors"), dict):
        raise Damaged(f"{path} is no checkpoint of this project: its record holds no SHA-256")
    if seals.get("record") != _record_digest(sealed):
        raise Damaged(f"{path} is damaged: its record does not have the SHA-256 it was saved with")
    names = seals["tensors"].keys() | digests.keys()
    wrong = sorted(name for name in names if seals["tensors"].get(name) != digests.get(name))
    if wrong:
        raise Damaged(
            f"{path} is damaged: not the SHA-256 that it was saved with in {printable(', '.join(wrong))}; "
            "take an older checkpoint"
        )
    return {name: value for name, value in sealed.items() if name != "sha256"}


def _record_digest(sealed: dict[str, Any]) -> str:
    seals = {"tensors": sealed["sha256"]["tensors"]}
    return hashlib.sha256(json.dumps({**sealed, "sha256": seals}, sort_keys=True).encode()).hexdigest()
