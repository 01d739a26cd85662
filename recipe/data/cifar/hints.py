"""What lies in a data folder without being CIFAR in a form that is read, and what to do with it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from recipe.data import folder, picture_files
from recipe.data.cifar import tfds_folder
from recipe.data.cifar.facts import CIFAR, Cifar
from recipe.system.errors import UserError


def refuse_other_forms(cifar: Cifar, root: Path) -> None:
    """Raise a `UserError` if the data folder `root` is not meant for a download of `cifar`."""
    for other in CIFAR.values():
        inside = tfds_folder.find(root, other.name)
        if other is not cifar and inside and inside[1] != root:
            raise UserError(
                f"{root} holds {other.title}, not {cifar.title}; add --config.data.name={other.name}"
            )
    if below := _one_below(cifar, root):
        raise UserError(f"{cifar.title} is in {below}, not in {root}; add --config.data.dir={below}")
    if matlab := _matlab(cifar, root):
        official = " or ".join(archive.file for archive in cifar.archives)
        raise UserError(f"{matlab} is for MATLAB and is not read; put {official} into {root}")
    if parquet := _parquet(root):
        official = " or ".join(archive.file for archive in cifar.archives)
        raise UserError(
            f"{parquet} is a table of Hugging Face's (parquet), which is not read; put {official} into "
            f"{root}, or save its pictures in train/CLASS and test/CLASS and add --config.data.name=folder"
        )
    if _has_classes_of_pictures(cifar, root):
        raise UserError(
            f"{root} holds pictures in class folders, not a form of {cifar.title} that can be checked; "
            f"add --config.data.name=folder to take them as they are, or name another folder"
        )


def _one_below(cifar: Cifar, root: Path) -> Path | None:
    """The first folder in `root` that is a data folder with a prepared folder or an official archive."""
    if not root.is_dir():
        return None
    for child in sorted(path for path in root.iterdir() if path.is_dir()):
        with contextlib.suppress(OSError):  # it may be somebody else's
            archives = any((child / archive.file).is_file() for archive in cifar.archives)
            if archives or tfds_folder.find(child, cifar.name):
                return child
    return None


def _matlab(cifar: Cifar, root: Path) -> Path | None:
    stem = cifar.name.replace("cifar", "cifar-")
    names = (f"{stem}-batches-mat", f"{stem}-matlab", f"{stem}-matlab.tar.gz", "data_batch_1.mat")
    return next((root / name for name in names if (root / name).exists()), None)


def _parquet(root: Path) -> Path | None:
    """The first parquet file in `root`, or in a folder of it: the hub has them in data or plain_text."""
    with contextlib.suppress(OSError):
        return next(
            (path for where in ("*.parquet", "*/*.parquet") for path in sorted(root.glob(where))), None
        )
    return None


def _has_classes_of_pictures(cifar: Cifar, root: Path) -> bool:
    """Whether there are training pictures by class, or class folders named as those of the dataset."""
    try:
        train, names = folder.find_parts(str(root)).train, folder.class_names(str(root))
        picture_files.find([str(train / names[0])])
    except UserError:
        return False
    return train != root or names == tuple(sorted(cifar.class_names))
