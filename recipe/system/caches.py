"""Where programs keep what takes long to make. Code is loaded from there, so nobody else may write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from recipe.system.files import variable


class NoCache(Exception):
    """Why nothing can be kept, in a few words."""


def cache_folder() -> Path:
    """The folder $XDG_CACHE_HOME/flax_resnet, by default below ~/.cache; see `private_folder`.

    Raises:
      NoCache: if there is no such folder.
      UserError: if XDG_CACHE_HOME is no local path.
    """
    try:
        return private_folder((variable("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "flax_resnet")
    except RuntimeError:
        raise NoCache("there is no home folder to keep it in; XDG_CACHE_HOME can name another") from None


def private_folder(path: Path) -> Path:
    """Return a folder, without links in its path; where it is missing, it is made for this user alone.

    Raises:
      NoCache: if it can't be made, or if others can write to it (see `why_not_private`).
    """
    try:
        for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
        path = path.resolve(strict=True)
        why_not = why_not_private(path)
    except OSError as error:
        raise NoCache(f"can't write to {path}: {error.strerror}") from error
    if why_not:
        raise NoCache(why_not)
    return path


def why_not_private(path: Path) -> str:
    """Who but this user can change a file, or what is in a folder; "" if nobody (but the system's owner) can.

    Whoever can write to a folder above can put another one in its place, unless that folder keeps everybody's
    own from the others, as /tmp does.

    Args:
      path: without links in it; see `Path.resolve`.
    """
    if path.stat().st_uid != os.getuid():
        return f"{path} belongs to another user"
    # in a container, the system's folders may seem to belong to another one than root
    trusted = {os.getuid(), 0, Path("/").stat().st_uid}
    for place in (path, *path.parents):
        status = place.stat()
        if status.st_uid not in trusted:
            return f"{place} belongs to another user"
        keeps_apart = place != path and status.st_mode & stat.S_ISVTX
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not keeps_apart:
            return f"others can write to {place} (chmod go-w {place} ends that)"
    return ""
