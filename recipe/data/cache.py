"""A cache of decoded arrays, so that a dataset is decoded once and not at every start."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from recipe.data.dataset import Arrays
from recipe.system import integrity
from recipe.system.caches import NoCache, cache_folder
from recipe.system.files import atomic_path

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
_FORMAT = 3  # raise it when the same source has to give other arrays, or is stored in another way
_logger = logging.getLogger(__name__)


def cached(
    source: Path, read: Callable[[Path], Arrays], files: Sequence[Path] = (), *, name: str = ""
) -> Arrays:
    """Return `read(source)`, from the cache if `source` (a file or a folder of files) is unchanged.

    A cache that fails is no error: an entry that can't be read, or does not have the SHA-256 that it was
    saved with, is made again, and where none can be written, the next start decodes again.

    Args:
      source: what identifies the entry.
      read: decodes `source`.
      files: the files whose changes count; by default `source`, or all files in it.
      name: of the dataset that the source is read as: as another one, it is read again.
    """
    try:
        folder = cache_folder()
    except NoCache as why:
        _logger.debug("no cache: %s", why)
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
        # Opened here because np.load leaves a damaged file open.
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            sealed = json.loads(str(stored["record"]))
            if sealed["fingerprint"] != fingerprint:
                return None
            arrays = {name: stored[name] for name in _ARRAYS}
        # A zip file's checksums leave out what says shapes and dtypes.
        record = integrity.check(sealed, _digests(arrays), entry)
        return Arrays(**arrays, class_names=tuple(record["class_names"]))
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged zip file can raise nearly anything
        _logger.debug("cannot use %s: %r", entry, error)
        return None


def _save(entry: Path, fingerprint: str, arrays: Arrays) -> None:
    fields = {name: getattr(arrays, name) for name in _ARRAYS}
    record = {"fingerprint": fingerprint, "class_names": arrays.class_names}
    try:
        with atomic_path(entry) as temporary:
            np.savez(temporary, record=json.dumps(integrity.seal(record, _digests(fields))), **fields)
    except OSError as error:
        _logger.debug("cannot write %s: %s", entry, error)


def _digests(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {
        name: integrity.digest(array.dtype.str, array.shape, np.ascontiguousarray(array))
        for name, array in arrays.items()
    }
