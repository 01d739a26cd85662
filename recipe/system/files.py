"""Files and folders that are written completely or not at all, and where programs keep them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from recipe.system.errors import UserError

# what copies from there, and back
DOWNLOADERS = {
    "gs": "gsutil cp -r", "s3": "aws s3 cp --recursive", "hf": "hf download",
    "http": "curl -LO", "https": "curl -LO",
}  # fmt: skip


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str], *, below: Path | None = None) -> Iterator[Path]:
    """Yield a temporary file's path beside `path`; on success flush it to disk and rename it to `path`.

    Folders that are missing are made; `below`, if it is given, is one that must be there.

    The temporary name keeps the suffix, since many writers choose a format by it. After an error or a
    kill, the file that was at `path` before is still there, unchanged. A kill leaves the temporary file: the
    next call for this path, and `sweep`, delete it.

    Raises:
      OSError: if no file can be written there; names `path`. An `IsADirectoryError` if `path` is a
        folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    make_folder(path.parent, below=below)
    _sweep(path.parent, name=path.stem)
    temporary, owned = _own(path, folder=False)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, os.fspath(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # names what the caller knows
    finally:
        with contextlib.suppress(OSError):  # a disk that has turned read-only; the first error is the reason
            temporary.unlink(missing_ok=True)
        os.close(owned)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, below: Path | None = None) -> Iterator[Path]:
    """Yield a free path for a new folder; on success it is flushed to disk and takes the place of `path`.

    Folders that are missing are made; `below`, if it is given, is one that must be there.

    After an error or a kill, the folder that was at `path` before is still there, unchanged. Only where the
    system can't exchange two folders at once, a kill between two renames leaves it beside `path` as
    `.<name>-….old`: the next call for this path, and `sweep`, put it back.
    """
    path = Path(path)
    make_folder(path.parent, below=below)
    _sweep(path.parent, name=path.name)
    temporary, owned = _own(path, folder=True)
    new = temporary / path.name
    try:
        yield new
        for folder, _, names in os.walk(new):
            for name in names:
                _flush(Path(folder, name))
            _flush(Path(folder))
        if not os.path.samestat(temporary.stat(), os.fstat(owned)):  # deleted, and made anew by who wrote it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
        if not os.path.lexists(path):
            new.rename(path)
        elif not _exchange(new, path):
            _replace(path, new, temporary.with_name(f"{temporary.name}.old"))
        _flush(path.parent)
    except BaseException:
        _remove_for_good(temporary)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(owned)


def make_folder(path: Path, *, below: Path | None = None) -> None:
    """Make a folder and those above it, where they are missing, and flush their names to disk.

    What is flushed in a folder is lost with it, if its own name was not.

    Args:
      path: of the folder.
      below: one above it that is not made.

    Raises:
      OSError: if it can't be made; a `FileNotFoundError` if `below` is not there.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    if below in missing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(below))
    for folder in reversed(missing):  # one by one: one that has just gone is not made anew for those in it
        folder.mkdir(exist_ok=True)
        _flush(folder.parent)


def remove(path: Path) -> None:
    """Delete a file or folder so that a kill or a loss of power leaves all of it, or what `sweep` deletes.

    Raises:
      OSError: if it can't be renamed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    hidden = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    path.rename(hidden)
    _flush(path.parent)  # else a loss of power may give the old name back to what is left by then
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Delete what processes that are gone left half-written in a folder; put back a folder between renames.

    What a living process writes has its lock and stays. Nothing is raised: what can't be deleted stays, too.
    """
    _sweep(folder)


def _remove_for_good(folder: Path) -> None:
    """Delete a folder into which a library's threads may still write, as tensorstore's do after an error.

    It has to be absent for a while; if it isn't within seconds, it is left to `sweep`.
    """
    absent = 0
    for _ in range(20):
        absent = 0 if folder.exists() else absent + 1
        if absent == 3:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)


TEMPORARY = re.compile(r"\.(?P<name>.+)-[0-9a-f]{16}(?P<suffix>\.[^.]+)?")  # see `_own`


def _sweep(folder: Path, name: str | None = None) -> None:
    """`sweep` of all temporaries in a folder, or of those for one name."""
    found: list[Path] = []
    with contextlib.suppress(OSError):  # there is no such folder, or one may write to it, but not list
        found = list(folder.iterdir())
    for path in found:
        match = TEMPORARY.fullmatch(path.name)
        if not match or path.is_symlink() or not (name is None or name in _names(match)):
            continue
        with contextlib.suppress(OSError), _locked_if_free(path) as free:
            if free:
                target = path.with_name(match["name"])
                if match["suffix"] == ".old" and path.is_dir() and not os.path.lexists(target):
                    path.rename(target)
                elif path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def _names(match: re.Match[str]) -> list[str]:
    """What a temporary was made for: a name, and where that is a temporary's, what that was made for."""
    names = [match["name"]]
    while outer := TEMPORARY.fullmatch(names[-1]):
        names.append(outer["name"])
    return names


@contextlib.contextmanager
def _locked_if_free(path: Path) -> Iterator[bool]:
    """Lock a temporary, unless a living process has; yield whether that was possible."""
    if not (path.is_file() or path.is_dir()):
        yield False
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another's, or a file system without locks, where nobody can tell
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _own(path: Path, *, folder: bool) -> tuple[Path, int]:
    """Make a temporary file or folder beside `path`, with the system's lock on it while this process lives.

    Returns:
      the temporary, and the descriptor that holds the lock.
    """
    while True:
        name = path.name if folder else path.stem
        temporary = path.with_name(f".{name}-{secrets.token_hex(8)}{'' if folder else path.suffix}")
        if folder:
            temporary.mkdir(0o700)
            descriptor = os.open(temporary, os.O_RDONLY)
        else:
            # tempfile makes files that only their owner can read, and the umask can only be read by changing
            # it for all threads. A file that is opened with mode 0o666 gets the umask applied by the system.
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():  # else it was swept before it was locked
            return temporary, descriptor
        os.close(descriptor)


def _flush(path: Path) -> None:
    """Have the system write a file's content, or a folder's names, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder that one may write to, but not list
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems flush no folders
            raise
    finally:
        os.close(descriptor)


def _exchange(a: Path, b: Path) -> bool:
    """Let two paths change places in one step; False where the system can't (Linux can)."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def _replace(path: Path, new: Path, old: Path) -> None:
    """Two renames in the place of an exchange: `path` to `old`, and `new` to `path`."""
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


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
