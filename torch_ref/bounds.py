"""What a PyTorch file may make of its bytes: looked at before it is opened, and before a tensor is copied."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recipe.system import pickles
from recipe.system.pickles import TooMuch
from recipe.system.terminal import shown

MULTIPLE = 4  # of a file's size, that may be made of it; tied weights are in it once
_ZIP = b"PK\x03\x04"
_PICKLES = 5  # that a file of torch.save has where it is no zip file
# PyTorch lets a file call these, which make arrays of any size, or such as no network here has
_CALLS = re.compile(
    r"(builtins|__builtin__)\.bytearray|torch(\.\w+)*\.\w*(Tensor|Storage)"
    r"|torch\._utils\._rebuild_(sparse|meta|nested|wrapper|qtensor|device)\w*"
)


def check_file(path: Path) -> None:
    """Look at what a file would make, without making it.

    Raises:
      TooMuch: the reason, if that is beyond bounds.
      Exception: of many types, if it is damaged.
    """
    with path.open("rb") as file:
        beginning = file.read(len(_ZIP))
        if beginning != _ZIP:
            file.seek(0)
            for _ in range(_PICKLES):
                _check_calls(*pickles.survey(file))
            return
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MULTIPLE * size:
            raise TooMuch(f"it has {size:,} bytes and unpacks to {unpacked:,}")
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as content:
                    _check_calls(*pickles.survey(content))


def check_tensors(content: Any, path: Path) -> None:
    """Check that a file's tensors have as many values as it holds, before any of them is copied.

    A few bytes can be a tensor of any shape, whose values are all the same ones.

    Raises:
      TooMuch: names the tensor.
    """
    size, total = path.stat().st_size, 0
    for name, tensor in _tensors(content, ""):
        needed, stored = tensor.nbytes, size
        if isinstance(tensor, Tensor):
            stored = tensor.untyped_storage().nbytes()
        if needed > stored:
            raise TooMuch(
                f"{shown(name)} of shape {tuple(tensor.shape)} needs {needed:,} bytes, "
                f"and {stored:,} are there"
            )
        total += needed
    if total > MULTIPLE * size:
        raise TooMuch(f"its tensors have {total:,} bytes together, it has {size:,}")


def _tensors(content: Any, name: str) -> Iterator[tuple[str, Tensor | np.ndarray]]:
    if isinstance(content, Tensor | np.ndarray):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value, name)


def _check_calls(names: set[str], calls: set[str]) -> None:
    strange = next((name for name in sorted(calls) if _CALLS.fullmatch(name)), None)
    if strange:
        raise TooMuch(f"it calls {strange}, which can take any amount of memory and which weights don't need")
