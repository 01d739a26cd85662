"""A cache of decoded arrays, so that a dataset is decoded once and not at every start."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from recipe.data.dataset import Arrays
from recipe.system.files import atomic_path, cache_folder

_FORMAT = 2  # raise it when the same source has to give other arrays, or is stored in another way
_logger = logging.getLogger(__name__)


def cached(
    source: Path, read: Callable[[Path], Arrays], files: Sequence[Path] = (), *, name: str = ""
) -> Arrays:
    """Return `read(source)`, from the cache if `source` (a file or a folder of files) is unchanged.

    A cache that fails is no error: an entry that can't be read is made again, and where none can be written,
    the next start decodes again.

    Args:
      source: what identifies the entry.
      read: decodes `source`.
      files: the files whose changes count; by default `source`, or all files in it.
      name: of the dataset that the source is read as: as another one, it is read again.
    """
    folder = cache_folder()
    if folder is None:
        return read(source)
    # one file for each source, so that a changed source replaces its old entry
    entry = folder / f"{hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:32]}.npz"
    fingerprint = _fingerprint(
        source, files, name
    )  # before reading, or a change meanwhile would look up to date
    arrays = _load(entry, fingerprint)
    if arrays is None:
        arrays = read(source)
        _save(entry, fingerprint, arrays)
    return arrays


def _fingerprint(source: Path, files: Sequence[Path], name: str) -> str:
    files = files or (sorted(source.iterdir()) if source.is_dir() else [source])
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr((_FORMAT, name, stats)).encode()).hexdigest()


def _load(entry: Path, fingerprint: str) -> Arrays | None:
    try:
        # Opened here because np.load leaves a damaged file open. Entries of .npz files carry checksums.
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if stored["fingerprint"] != fingerprint:
                return None
            fields = {field.name: stored[field.name] for field in dataclasses.fields(Arrays)}
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged zip file can raise nearly anything
        _logger.debug("cannot use %s: %r", entry, error)
        return None
    return Arrays(**{**fields, "class_names": tuple(fields["class_names"].tolist())})


def _save(entry: Path, fingerprint: str, arrays: Arrays) -> None:
    try:
        with atomic_path(entry) as temporary:
            np.savez(temporary, fingerprint=fingerprint, **vars(arrays))
    except OSError as error:
        _logger.debug("cannot write %s: %s", entry, error)
