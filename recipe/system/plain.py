"""Plain files, told from what may stand in their place: pipes, devices, folders, links to somewhere else.

To open a pipe waits for somebody to write into it, a device may have no end, and what is written through a
link lands in a place that nobody has named.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from recipe.system.memory import most_memory

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def check(path: Path) -> None:
    """Check that a path, or what it links to, is a file that can be read as a whole.

    Raises:
      ValueError: the reason, in one line: it is something else, or has more bytes than this machine's memory.
      OSError: if there is nothing.
    """
    status = path.stat()
    if other := _other(status.st_mode):
        raise ValueError(f"it is {other}, no file")
    if status.st_size > most_memory():
        raise ValueError(f"it has {status.st_size:,} bytes, more than this machine's memory")


def read(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file.

    Raises:
      ValueError: as `check`, and where it has more bytes than `most_bytes`.
      OSError: if it can't be read.
    """
    check(path)
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it has more than {most_bytes >> 20} MiB")
    return content


def open_own(path: Path) -> int:
    """Open a file to append to it and to read it, and make it where there is none; its descriptor.

    The folder may come from anybody: a link in the file's place is not followed.

    Raises:
      OSError: if it can't be opened, or something else is there; names the path.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        other = _other(path.lstat().st_mode) if os.path.lexists(path) else ""
        raise _not_plain(path, other) if other else error from None
    if other := _other(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(path, other)
    return descriptor


def _other(mode: int) -> str:
    """What it is that is no file; "" for a file."""
    kind = stat.S_IFMT(mode)
    return "" if kind == stat.S_IFREG else _KINDS.get(kind, "something else")


def _not_plain(path: Path, other: str) -> OSError:
    return OSError(errno.EINVAL, f"{path.name} is {other}, no file", str(path))
