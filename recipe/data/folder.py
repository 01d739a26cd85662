"""Your own pictures: a folder per class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from recipe.data import images, picture_files
from recipe.data.cache import cached
from recipe.data.dataset import Arrays, Dataset
from recipe.normalisation import statistics
from recipe.system.errors import UserError
from recipe.system.files import expanded
from recipe.system.terminal import printable

SIZE = 32  # pixels
LAYOUT = "DIR/train/<class>/*.png and DIR/test/<class>/*.png (or .jpg, …)"
_TRAIN = ("train", "training")  # what the parts are called, in upper or lower case
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")  # stands for the test part where there is no other
MOST_REASONS = 3  # as many damaged pictures are named

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Parts:
    """Where the pictures lie: a folder that holds the class folders, for each part."""

    train: Path
    test: Path | None  # None: all pictures are training pictures
    unused: tuple[str, ...] = ()  # folders that could be a part, too

    @property
    def source(self) -> str:
        """See `Dataset.source`."""
        if self.test is None:
            return "a folder per class, without a test part"
        unused = "".join(f", not {name}/" for name in self.unused)
        return f"{self.train.name}/ and {self.test.name}/{unused}, a folder per class"


def load(directory: str) -> Dataset:
    """Return the pictures below `directory`/train/<class>/ and `directory`/test/<class>/, at any depth.

    `find_parts` says what else the two may be called. A picture becomes 32×32 RGB as it does for a
    prediction: its shorter side scaled, its centre cropped. Classes are numbered in the order of their names,
    examples are in the order of their paths. Mean and standard deviation are those of the training pictures.
    Where the pictures are not divided into parts, there are no test images: see `Dataset.hold_out`.

    Raises:
      UserError: if a folder is missing or empty, the parts have other classes, or a picture can't be read.
    """
    parts, names = find_parts(directory), class_names(directory)
    folders = {"train": parts.train, "test": parts.test}
    found = {
        part: [picture_files.find([str(folder / name)]) for name in names] if folder else []
        for part, folder in folders.items()
    }
    everything = [of_class for classes in found.values() for of_class in classes]
    if left_out := [file for of_class in everything for file in of_class.left_out]:
        _logger.warning("%s", picture_files.notice(left_out))
    paths = {part: [of_class.pictures for of_class in classes] for part, classes in found.items()}
    arrays = cached(
        expanded(directory),
        lambda _: _read(paths, names),
        [file for of_class in everything for file in of_class.pictures],
        name="folder",
    )
    mean, std = statistics(arrays.train_images)
    if max(std) == 0:
        raise UserError(f"the training pictures in {directory} are all of one colour")
    std = tuple(s or 1.0 for s in std)  # type: ignore[assignment]  # a channel that never varies has 0
    return Dataset(
        name="folder", title=f"the pictures in {printable(directory)}", source=parts.source,
        mean=mean, std=std, **vars(arrays),
    )  # fmt: skip


def find_parts(directory: str) -> Parts:
    """Find the training and the test part in `directory`.

    They are train (or training) and test (or testing), in upper or lower case; without a test part, val,
    valid or validation stands for it. Class folders without parts are a training part on their own.

    Raises:
      UserError: if there is no such folder, no training part, or more than one choice.
    """
    if not directory:
        raise UserError(f"config.data.name=folder needs --config.data.dir=DIR, with {LAYOUT}")
    root = expanded(directory)
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; pictures are looked for in {LAYOUT}")
    train = _part(root, _TRAIN)
    test = _part(root, _TEST) or _part(root, _VALIDATION)
    if train:
        used = (train.name, test.name if test else "")
        return Parts(train, test, tuple(name for name in _parts_in(root) if name not in used))
    if test:
        raise UserError(f"there is no folder {root / 'train'}; pictures are looked for in {LAYOUT}")
    above = root.absolute().parent
    if root.absolute().name.lower() in _TRAIN and (_part(above, _TEST) or _part(above, _VALIDATION)):
        raise UserError(f"{root} is only the training part; name the folder above: --config.data.dir={above}")
    below = [name for name in picture_files.subfolders(root) if _parts_in(root / name)]
    if below:
        raise UserError(
            f"{root} has no train/ and test/, but {root / below[0]} has: --config.data.dir={root / below[0]}"
        )
    return Parts(root, None)


def class_names(directory: str) -> tuple[str, ...]:
    """The names of the class folders, sorted.

    Raises:
      UserError: as `load`.
    """
    parts = find_parts(directory)
    names = picture_files.subfolders(parts.train)
    if parts.test and (alone := sorted(set(names) ^ set(picture_files.subfolders(parts.test)))):
        raise UserError(
            f"class {alone[0]!r} is in only one of {parts.train} and {parts.test}; "
            "both need a folder for each class"
        )
    strange = next((name for name in names if not name.isprintable()), None)
    if strange is not None:
        raise UserError(f"the class folder {strange!r} has a name that can't be printed; rename it")
    if len(names) < 2:
        what = "1 folder" if names else "no folders"
        raise UserError(f"{parts.train} has {what}; two classes are needed at least, a folder each: {LAYOUT}")
    return tuple(names)


def how_to_get() -> str:
    """See `recipe.data.how_to_get`."""
    return f"Put your pictures into {LAYOUT} and name DIR with --config.data.dir."


def _parts_in(folder: Path) -> list[str]:
    """The folders in `folder` that are called as a part is."""
    called = (*_TRAIN, *_TEST, *_VALIDATION)
    return [name for name in picture_files.subfolders(folder) if name.lower() in called]


def _part(root: Path, called: tuple[str, ...]) -> Path | None:
    """The folder that is called so: exactly, or the only one in upper or lower case."""
    names = [name for name in _parts_in(root) if name.lower() in called]
    if called[0] in names:
        return root / called[0]
    if len(names) > 1:
        several = " and ".join(f"{name}/" for name in names)
        raise UserError(f"{root} holds {several}: call the one that is meant {called[0]}/")
    return root / names[0] if names else None


def _read(paths: dict[str, list[list[Path]]], names: tuple[str, ...]) -> Arrays:
    parts, errors, count = {}, [], 0
    for part, classes in paths.items():
        pictures = [np.empty((0, SIZE, SIZE, 3), np.uint8)]  # which a part without pictures is, too
        for path in (path for of_class in classes for path in of_class):
            count += 1
            try:
                pictures.append(images.load(path, SIZE)[None])
            except images.UnreadableImage as error:
                errors.append(error)
        parts[f"{part}_images"] = np.concatenate(pictures)
        parts[f"{part}_labels"] = np.repeat(
            np.arange(len(classes), dtype=np.int32), [len(of_class) for of_class in classes]
        )
    if len(errors) == 1:
        raise errors[0]
    if errors:
        more = f"; and {len(errors) - MOST_REASONS:,} more" if len(errors) > MOST_REASONS else ""
        reasons = "; ".join(str(error) for error in errors[:MOST_REASONS])
        raise UserError(f"{len(errors):,} of {count:,} images can't be read: {reasons}{more}")
    return Arrays(**parts, class_names=names)
