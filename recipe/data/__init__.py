"""Datasets as uint8 arrays: found, downloaded or unpacked, decoded once, and always in the same order."""

from __future__ import annotations

from recipe.data import digits, folder
from recipe.data.cifar import find as cifar
from recipe.data.cifar.facts import CIFAR
from recipe.data.dataset import Dataset
from recipe.system.errors import UserError, choice

__all__ = ["NAMES", "Dataset", "classes", "how_to_get", "load"]

CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10}
NAMES = (*CLASSES, "folder")


def load(name: str, directory: str = "", *, download: bool = True) -> Dataset:
    """Return the dataset called `name`, one of `NAMES`.

    A CIFAR dataset is looked for in its data folder: `directory`, or else $TFDS_DATA_DIR, or else
    ~/tensorflow_datasets. It may hold a folder prepared by TensorFlow Datasets or, failing that, the
    official archive, or that unpacked, or Keras' arrays as .npz; without these, and with `download`, the
    archive is downloaded to it. An archive is turned into a prepared folder. 'digits' comes with
    scikit-learn and needs no folder. 'folder' means your own pictures in `directory`
    (recipe/data/folder.py), which may have no test images: see `Dataset.hold_out`.

    Raises:
      DatasetUnavailable: the dataset was not found, and was not or could not be downloaded.
      UserError: the name is unknown, `directory` is not there, or what was found is damaged, altered, or
        nothing that can be read.
    """
    choice("dataset", name, NAMES)
    if name == "digits":
        return digits.load()
    title = directory if name == "folder" else CIFAR[name].title
    try:
        if name == "folder":
            return folder.load(directory)
        return cifar.load(CIFAR[name], directory, download=download)
    except OSError as error:
        raise UserError(f"cannot read {title}: {error}") from error


def classes(name: str, directory: str = "") -> int:
    """The number of classes of the dataset `name`; only 'folder' is looked at for it."""
    if name != "folder":
        return CLASSES[name]
    try:
        return len(folder.class_names(directory))
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error}") from error


def how_to_get(name: str) -> str:
    """Return how to get the dataset `name`, as a few lines of text for people."""
    choice("dataset", name, NAMES)
    if name == "digits":
        return f"{digits.TITLE}: comes with scikit-learn; there is nothing to get."
    if name == "folder":
        return folder.how_to_get()
    return cifar.how_to_get(CIFAR[name])
