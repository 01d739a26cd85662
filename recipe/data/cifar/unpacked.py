"""The folder that an official archive was unpacked to."""

from __future__ import annotations

import hashlib
from pathlib import Path

from recipe.data.cifar import genuine
from recipe.data.cifar.archive import LARGEST, Archive
from recipe.data.cifar.facts import Cifar
from recipe.data.dataset import Arrays
from recipe.system.errors import UserError, first_line


def find(cifar: Cifar, root: Path) -> tuple[Archive, Path] | None:
    """The first folder that holds files of an official archive: `root`, one in it, or one level deeper."""
    for archive in cifar.archives:
        for folder in (root, root / archive.folder, *sorted(root.glob(f"*/{archive.folder}"))):
            if any((folder / name).is_file() for name in (*archive.train, *archive.test)):
                return archive, folder
    return None


def files(archive: Archive, folder: Path) -> list[Path]:
    """The files of the archive that are read, as far as they are there."""
    return [path for name in archive.members if (path := folder / name).is_file()]


def read(cifar: Cifar, archive: Archive, folder: Path) -> Arrays:
    """Return the arrays in the unpacked `folder`.

    Raises:
      UserError: if a file is missing or damaged, or they can't be told from an altered copy.
    """
    remedy = f"unpack {archive.file} again, or name the folder of that file with --config.data.dir"
    for name in (*archive.train, *archive.test):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; {remedy}")
    for path in files(archive, folder):
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is damaged: it has {path.stat().st_size:,} bytes; {remedy}")
    contents = {path.name: path.read_bytes() for path in files(archive, folder)}
    if not cifar.digest:
        _check_files(cifar, archive, folder, contents, remedy)
    try:
        arrays = archive.contents(contents, cifar.class_names).arrays()
    except Exception as error:  # of pickle, which raises many types, or of a size that does not fit
        raise UserError(f"the files in {folder} are damaged ({first_line(error)}); {remedy}") from error
    return genuine.check(cifar, arrays, str(folder), remedy)


def _check_files(
    cifar: Cifar, archive: Archive, folder: Path, contents: dict[str, bytes], remedy: str
) -> None:
    """Check each file by its published MD5, if there is one."""
    if not archive.md5:
        python = cifar.archives[-1]
        raise UserError(
            f"{folder} is there, but nobody publishes checksums of its files; put {archive.file}, "
            f"{python.file} or the unpacked {python.folder} into {folder.parent}"
        )
    for name in archive.members:
        if name not in contents:
            raise UserError(f"{folder / name} is missing; {remedy}")
        if hashlib.md5(contents[name], usedforsecurity=False).hexdigest() != archive.md5[name]:
            raise UserError(
                f"{folder / name} is not the official file of {cifar.title}: damaged or altered; {remedy}"
            )
