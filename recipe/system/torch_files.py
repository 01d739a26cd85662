"""Files of torch.save: what they would make of their bytes, known before they do, and why one is refused."""

from __future__ import annotations

import io
import mmap
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from recipe.system import pickles, plain
from recipe.system.errors import Damaged, UserError
from recipe.system.pickles import TooMuch
from recipe.system.terminal import shown

MULTIPLE = 4  # of a file's size, that may be made of it; tied weights are in it once
PICKLES = 5  # that a file of torch.save has where it is no zip file
ZIP = b"PK\x03\x04"  # how a zip file begins
_WEIGHTS_ALONE = "Ask its owner for the weights alone: torch.save(model.state_dict(), …)"
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
    plain.check(path)
    with path.open("rb") as file:
        if file.read(len(ZIP)) != ZIP:
            # a file would make room for a text of terabytes, if one is said to follow
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for _ in range(PICKLES):
                    _check_calls(*pickles.survey(cast("IO[bytes]", content)))
            return
    size = path.stat().st_size
    with opened_zip(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MULTIPLE * size:
            raise TooMuch(f"it has {size:,} bytes and unpacks to {unpacked:,}")
        for member in archive.infolist():
            if member.filename.endswith("data.pkl"):
                _check_calls(*pickles.survey(io.BytesIO(archive.read(member))))


def opened_zip(path: Path) -> zipfile.ZipFile:
    """A zip file, which checks what is read by its CRC-32, unless it has none.

    PyTorch writes 0 for them where it shall save the time (torch.serialization.set_crc32_options).
    """
    archive = zipfile.ZipFile(path)
    for member in archive.infolist():
        if member.CRC == 0:
            del member.CRC  # so that zipfile does not check it
    return archive


def has_checksums(path: Path) -> bool:
    """Whether a file is a zip file with a CRC-32 of each tensor."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.CRC for member in archive.infolist() if "/data/" in member.filename)


def check_tensors(content: Any, path: Path, stored: Callable[[Any], int | None]) -> None:
    """Check that a file's tensors have as many values as it holds, before any of them is copied.

    A few bytes can be a tensor of any shape, whose values are all the same ones.

    Args:
      content: what was made of the file.
      path: the file.
      stored: how many bytes there are that a tensor takes its values from; None for what is no tensor.

    Raises:
      TooMuch: names the tensor.
    """
    size, total = path.stat().st_size, 0
    for name, tensor, available in _tensors(content, stored, ""):
        if tensor.nbytes > available:
            raise TooMuch(
                f"{shown(name)} of shape {tuple(tensor.shape)} needs {tensor.nbytes:,} bytes, "
                f"and {available:,} are there"
            )
        total += tensor.nbytes
    if total > MULTIPLE * size:
        raise TooMuch(f"its tensors have {total:,} bytes together, it has {size:,}")


def too_much(path: Path, error: TooMuch) -> Damaged:
    """The error for a file that is beyond bounds: an owner's trick, or a flipped bit."""
    return Damaged(f"{path} was not read: {error}. {_WEIGHTS_ALONE}")


def would_run(path: Path, what: str) -> UserError:
    """The error for a file that can't be opened without running `what` from it."""
    return UserError(
        f"{path} was not opened, since that would run code from the file ({what}); nothing of it ran. "
        f"{_WEIGHTS_ALONE}"
    )


def _check_calls(names: set[str], calls: set[str]) -> None:
    strange = next((name for name in sorted(calls) if _CALLS.fullmatch(name)), None)
    if strange:
        raise TooMuch(f"it calls {strange}, which can take any amount of memory and which weights don't need")


def _tensors(content: Any, stored: Callable[[Any], int | None], name: str) -> Iterator[tuple[str, Any, int]]:
    """The name of every tensor at any depth, itself, and how many bytes it takes its values from."""
    available = stored(content)
    if available is not None:
        yield name, content, available
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, stored, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _tensors(value, stored, name)
