"""Files and folders that are written completely or not at all, and where programs keep them."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from recipe.system.errors import UserError

# what copies from there, and back
DOWNLOADERS = {
    "gs": "gsutil cp -r", "s3": "aws s3 cp --recursive", "hf": "hf download",
    "http": "curl -LO", "https": "curl -LO",
}  # fmt: skip


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file's path beside `path`; on success flush it to disk and rename it to `path`.

    The temporary name keeps the suffix, since many writers choose a format by it. After an error or a
    kill, the file that was at `path` before is still there, unchanged.

    Raises:
      OSError: if no file can be made there; an `IsADirectoryError` if `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    # tempfile makes files that only their owner can read, and the umask can only be read by changing it for
    # all threads. A file that is opened with mode 0o666 gets the umask applied by the system.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a free path for a new folder; on success it is renamed to `path`, replacing what was there.

    After an error or a kill, the old folder still exists, unchanged: at `path`, or, if the kill came between
    two renames, beside it as `.<name>-….old`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    new, old = temporary / path.name, temporary.with_name(f"{temporary.name}.old")
    try:
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        if old.is_symlink():
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_local(path: str | os.PathLike[str]) -> None:
    """Raise a `UserError` for an address such as gs://bucket/run, or gs:/bucket/run, as `pathlib` shows it.

    It would become a folder named "gs:".
    """
    address = os.fsdecode(path).strip()
    match = re.match(r"([a-z][a-z0-9+.-]+):/", address, re.IGNORECASE)  # "c:/" is a drive
    if not match:
        return
    scheme = match[1].lower()
    if scheme == "file":
        raise UserError(f"{address}: paths are given without file://")
    how = f" ({DOWNLOADERS[scheme]} …)" if scheme in DOWNLOADERS else ""
    raise UserError(
        f"{address}: {scheme}:// is not supported, only local paths are; name a local one, and to read what "
        f"is there, download it first{how}"
    )


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path, with ~ or ~user at its beginning replaced by that home folder.

    Raises:
      UserError: if there is no such user, or if it is an address (see `check_local`).
    """
    check_local(path)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"can't tell the home folder in {path}: there is no such user") from error


def variable(name: str) -> Path | None:
    """The path in an environment variable; None where it is not set, or empty.

    Raises:
      UserError: as `expanded`, and names the variable.
    """
    try:
        return expanded(os.environ[name]) if os.environ.get(name) else None
    except UserError as error:
        raise UserError(f"the environment variable {name}: {error}") from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an `OSError` if no file can be made beside `path`: better before an hour's work than after it."""
    folder = Path(path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
