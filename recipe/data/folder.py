"""Your own pictures: a folder per class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recipe.data import images
from recipe.data.cache import cached
from recipe.data.dataset import Arrays, Dataset
from recipe.normalisation import statistics
from recipe.system.errors import UserError
from recipe.system.files import expanded

SIZE = 32  # pixels
LAYOUT = "DIR/train/<class>/*.png and DIR/test/<class>/*.png (or .jpg, …)"


def load(directory: str) -> Dataset:
    """Return the pictures below `directory`/train/<class>/ and `directory`/test/<class>/, at any depth.

    A picture becomes 32×32 RGB as it does for a prediction: its shorter side scaled, its centre cropped.
    Classes are numbered in the order of their names, examples are in the order of their paths. Mean and
    standard deviation are those of the training pictures.

    Raises:
      UserError: if a folder is missing or empty, the parts have other classes, or a picture can't be read.
    """
    root, names = expanded(directory), class_names(directory)
    paths = {part: [images.find([str(root / part / name)]) for name in names] for part in ("train", "test")}
    everything = [path for classes in paths.values() for of_class in classes for path in of_class]
    arrays = cached(root, lambda root: _read(paths, names), everything)
    mean, std = statistics(arrays.train_images)
    if max(std) == 0:
        raise UserError(f"the training pictures in {directory} are all of one colour")
    std = tuple(s or 1.0 for s in std)  # type: ignore[assignment]  # a channel that never varies has 0
    shown = directory.encode("utf-8", "replace").decode()
    return Dataset(
        name="folder", title=f"the pictures in {shown}", source="a folder per class", mean=mean, std=std,
        **vars(arrays),
    )  # fmt: skip


def class_names(directory: str) -> tuple[str, ...]:
    """The names of the class folders, sorted.

    Raises:
      UserError: as `load`.
    """
    if not directory:
        raise UserError(f"config.data.name=folder needs --config.data.dir=DIR, with {LAYOUT}")
    parts = [expanded(directory) / part for part in ("train", "test")]
    for part in parts:
        if not part.is_dir():
            raise UserError(f"there is no folder {part}; pictures are looked for in {LAYOUT}")
    train, test = (
        sorted(path.name for path in part.iterdir() if path.is_dir() and not path.name.startswith("."))
        for part in parts
    )
    if train != test:
        alone = sorted(set(train) ^ set(test))[0]
        raise UserError(
            f"class {alone!r} is in only one of {parts[0]} and {parts[1]}; both need a folder for each class"
        )
    strange = next((name for name in train if not name.isprintable()), None)
    if strange is not None:
        raise UserError(f"the class folder {strange!r} has a name that can't be printed; rename it")
    if len(train) < 2:
        raise UserError(
            f"{parts[0]} has {len(train)} folders; two classes are needed at least, a folder each"
        )
    return tuple(train)


def how_to_get() -> str:
    """See `recipe.data.how_to_get`."""
    return f"Put your pictures into {LAYOUT} and name DIR with --config.data.dir."


def _read(paths: dict[str, list[list[Path]]], names: tuple[str, ...]) -> Arrays:
    parts = {}
    for part, classes in paths.items():
        pictures = [images.load(path, SIZE) for of_class in classes for path in of_class]
        parts[f"{part}_images"] = np.stack(pictures)
        parts[f"{part}_labels"] = np.repeat(np.arange(len(names), dtype=np.int32), list(map(len, classes)))
    return Arrays(**parts, class_names=names)
