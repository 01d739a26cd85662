"""Where CIFAR-10 and CIFAR-100 are looked for: prepared folder, official archive, other forms, download."""

from __future__ import annotations

import logging
from pathlib import Path

from recipe.data.cache import cached
from recipe.data.cifar import genuine, hints, npz, tfds_folder, unpacked
from recipe.data.cifar.archive import Archive
from recipe.data.cifar.download import DownloadFailed, download_archive
from recipe.data.cifar.facts import Cifar
from recipe.data.cifar.prepare import prepare
from recipe.data.dataset import Arrays, Dataset
from recipe.system.errors import DatasetUnavailable, UserError
from recipe.system.files import expanded, variable

_DEFAULT_FOLDER = "~/tensorflow_datasets"  # as in TensorFlow Datasets
_logger = logging.getLogger(__name__)


def load(cifar: Cifar, directory: str, *, download: bool) -> Dataset:
    """See `recipe.data.load`. This is the order of look-up."""
    root = _data_folder(directory)
    if prepared := tfds_folder.find(root, cifar.name):
        return _of_tfds_folder(cifar, *prepared, root)
    if found := _find_archive(cifar, root):
        return _of_archive(cifar, *found, root)
    if unpacked_folder := unpacked.find(cifar, root):
        archive, folder = unpacked_folder
        arrays = cached(
            folder,
            lambda folder: unpacked.read(cifar, archive, folder),
            unpacked.files(archive, folder),
            name=cifar.name,
        )
        return _dataset(cifar, f"the unpacked {_shown(folder)}", arrays)
    if path := npz.find(cifar, root):
        return _dataset(
            cifar, _shown(path), cached(path, lambda path: npz.read(cifar, path), name=cifar.name)
        )
    if root.is_file():
        if root.suffix == ".parquet":
            hints.refuse_other_forms(cifar, root.parent)
        raise UserError(
            f"{directory} is a file; name the folder that holds it: --config.data.dir={root.parent}"
        )
    hints.refuse_other_forms(cifar, root)
    return _of_archive(cifar, *_download(cifar, root, allowed=download), root)


def how_to_get(cifar: Cifar) -> str:
    """See `recipe.data.how_to_get`."""
    first, *others = (archive.file for archive in cifar.archives)
    megabytes = cifar.archives[0].size / 1e6
    npz_file = f", or Keras' arrays as {cifar.name}.npz" if cifar.digest else ""
    return f"""\
{cifar.title} can come from any of these:
  1. a folder prepared by TensorFlow Datasets ({cifar.name}/<version>, array_record or tfrecord):
     name the folder that holds {cifar.name}/ in $TFDS_DATA_DIR or with --config.data.dir=FOLDER;
  2. the network: start again where it is reachable, and {megabytes:.0f} MB are downloaded from
     {cifar.archives[0].url};
  3. the official archive: download {" or ".join([first, *others])} elsewhere, from
     {cifar.archives[0].url.rpartition("/")[0]}/cifar.html, and put it into the data folder
     (the one named as in 1, or else {_DEFAULT_FOLDER}), as it is or unpacked{npz_file}."""


def _data_folder(directory: str) -> Path:
    if not directory:
        return variable("TFDS_DATA_DIR") or expanded(_DEFAULT_FOLDER)
    root = expanded(directory)
    if not root.exists():
        raise UserError(f"data folder {directory} does not exist; create it, or name another")
    return root


def _of_tfds_folder(cifar: Cifar, folder: Path, data_folder: Path, named: Path) -> Dataset:

    def read(folder: Path) -> Arrays:
        arrays = tfds_folder.read(folder)
        return genuine.check(cifar, arrays, str(folder), "restore it, or delete it to have it made anew")

    try:
        arrays = cached(folder, read, name=cifar.name)
    except UserError as error:
        if data_folder == named:
            raise
        raise UserError(f"{error}; name the folder that holds {cifar.name}/: {data_folder}") from error
    return _dataset(cifar, f"TFDS folder {_shown(folder)}", arrays)


def _find_archive(cifar: Cifar, root: Path) -> tuple[Archive, Path] | None:
    """The first official archive in the data folder, its checksum verified; None if there is none."""
    for archive in cifar.archives:
        # The last one is where TensorFlow Datasets expects what has to be downloaded by hand.
        for folder in (root, root / "downloads", root / "downloads" / "manual"):
            # Keras keeps the archive under the second name.
            for path in (folder / archive.file, folder / f"{archive.folder}.tar.gz"):
                if not path.is_file():
                    continue
                if not archive.matches(path):
                    raise UserError(
                        f"{path} ({path.stat().st_size:,} bytes; {archive.size:,} expected) is truncated or "
                        "damaged; delete it and download it again"
                    )
                return archive, path
    return None


def _of_archive(cifar: Cifar, archive: Archive, path: Path, root: Path) -> Dataset:
    folder = _prepare(cifar, archive, path, root)
    if folder is None:
        arrays = cached(path, lambda path: archive.read(path).arrays(), name=cifar.name)
        return _dataset(cifar, f"archive {_shown(path)}", arrays)
    return _of_tfds_folder(cifar, folder, root, root)


def _download(cifar: Cifar, root: Path, *, allowed: bool) -> tuple[Archive, Path]:
    archive = cifar.archives[0]
    path = root / "downloads" / archive.file
    try:
        if not allowed:
            raise DownloadFailed("downloading is switched off")
        download_archive(archive, path)
    except DownloadFailed as error:
        files = " or ".join(archive.file for archive in cifar.archives)
        raise DatasetUnavailable(
            f"{cifar.title} is not in {_shown(root)} (no prepared folder {cifar.name}/<version>, no {files}, "
            f"packed or unpacked) and was not downloaded: {error}"
        ) from error
    return archive, path


def _prepare(cifar: Cifar, archive: Archive, path: Path, root: Path) -> Path | None:
    """Make the TFDS folder and return it; where it can't be written, warn and return None."""
    try:
        prepare(cifar.name, archive, path, root)
    except OSError as error:
        if tfds_folder.find(root, cifar.name) is None:  # no other process has just made it either
            _logger.warning("cannot write a TFDS folder in %s (%s); using %s as it is", root, error, path)
    found = tfds_folder.find(root, cifar.name)
    return found and found[0]


def _dataset(cifar: Cifar, source: str, arrays: Arrays) -> Dataset:
    return Dataset(
        name=cifar.name, title=cifar.title, source=source, mean=cifar.mean, std=cifar.std, **vars(arrays)
    )


def _shown(path: Path) -> str:
    """The path with ~ for the home folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (RuntimeError, ValueError):  # there is no home folder, or the path is elsewhere
        return str(path)
