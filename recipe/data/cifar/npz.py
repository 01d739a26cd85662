"""The arrays of Keras in an .npz file: x_train, y_train, x_test, y_test."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from recipe.data.cifar import genuine
from recipe.data.cifar.facts import Cifar
from recipe.data.dataset import Arrays
from recipe.system.errors import UserError, first_line

MOST_BYTES = 250_000_000  # of all arrays unpacked; Keras' have 185 million
KEYS = ("x_train", "y_train", "x_test", "y_test")


def find(cifar: Cifar, root: Path) -> Path | None:
    """`root` itself, if it is an .npz file, or the first one in it that is called as the dataset is."""
    if root.is_file():
        return root if root.suffix.lower() == ".npz" else None
    called = re.compile(cifar.name.replace("cifar", r"cifar[-_ ]?") + r"(?!\d).*\.npz", re.IGNORECASE)
    return next((path for path in sorted(root.glob("*")) if called.match(path.name) and path.is_file()), None)


def read(cifar: Cifar, path: Path) -> Arrays:
    """Return the arrays of the file: uint8 images (N, 32, 32, 3) or (N, 3, 32, 32), labels (N, 1) or (N,).

    Raises:
      UserError: if it holds anything else, or it can't be told from an altered copy.
    """
    official = " or ".join(archive.file for archive in cifar.archives)
    instead = f"put {official} into a folder and name that with --config.data.dir"
    remedy = f"make it anew, or {instead}"
    if not cifar.digest:
        raise UserError(f"{path} can't be told from an altered copy, so it is not read; {instead}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            # a file of zeros is packed into a thousandth
            unpacked = sum(member.file_size for member in stored.zip.infolist())
            if unpacked > MOST_BYTES:
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than {cifar.title} has")
            missing = [key for key in KEYS if key not in stored]
            arrays = {key: stored[key] for key in KEYS if not missing}
            if not all(isinstance(array, np.ndarray) for array in arrays.values()):  # NumPy gives the bytes
                raise ValueError("not all that is in it is an array")
    except OSError:
        raise
    except Exception as error:  # a damaged zip file can raise nearly anything
        raise UserError(f"{path} is damaged ({first_line(error)}); {remedy}") from error
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}, as Keras' arrays have; {remedy}")
    images = {part: _images(arrays[f"x_{part}"], f"x_{part} in {path}", remedy) for part in ("train", "test")}
    labels = {part: arrays[f"y_{part}"].reshape(-1).astype(np.int32) for part in ("train", "test")}
    return genuine.check(
        cifar,
        Arrays(images["train"], labels["train"], images["test"], labels["test"], cifar.class_names),
        str(path),
        remedy,
    )


def _images(images: np.ndarray, what: str, remedy: str) -> np.ndarray:
    if images.shape[1:] == (3, 32, 32):
        images = images.transpose(0, 2, 3, 1)
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        raise UserError(
            f"{what} is {images.dtype} of shape {images.shape} instead of uint8 (N, 32, 32, 3); {remedy}"
        )
    return np.ascontiguousarray(images)
