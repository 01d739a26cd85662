"""Readers of datasets: CIFAR in every form, pictures, and folders of them. The CIFAR is a small one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from recipe import data
from recipe.data import folder as picture_folder
from recipe.data import images
from recipe.data.cifar import facts, prepare
from recipe.data.cifar.archive import Archive
from tests.recipe.data.cifar.mini import MINI, place_folder, unpack
from tests.stress.inputs.reader import Reader, fingerprint

_NAME = "cifar10"
_MINI = MINI[_NAME]
_BINARY, _PYTHON = _MINI.cifar.archives


def _prepare() -> None:
    """Let the small dataset be the genuine one, by its SHA-256, and nothing be cached."""
    genuine = {"digest": _MINI.arrays.digest, "class_names": _MINI.arrays.class_names}
    facts.CIFAR[_NAME] = dataclasses.replace(_MINI.cifar, **genuine)
    os.environ["XDG_CACHE_HOME"] = "/proc/none"


def _load(folder: Path) -> str:
    return data.load(_NAME, str(folder), download=False).digest


def _make_archive(archive: Archive) -> Any:
    return lambda folder: (folder / archive.file).write_bytes(_MINI.files[archive.file])


def _read_archive(archive: Archive) -> Any:
    """Past the checksum of the whole file, which finds all damage."""
    return lambda folder: archive.read(folder / archive.file).arrays().digest


def _make_npz(folder: Path) -> None:
    arrays = _MINI.arrays
    np.savez(
        folder / "cifar10.npz", x_train=arrays.train_images, y_train=arrays.train_labels[:, None],
        x_test=arrays.test_images, y_test=arrays.test_labels[:, None],
    )  # fmt: skip


def _make_prepared(file_format: str) -> Any:
    def make(folder: Path) -> None:
        made = folder / "made"
        made.mkdir()
        _make_archive(_BINARY)(made)
        prepare.prepare(_NAME, _BINARY, made / _BINARY.file, made)
        place_folder(made / _NAME / "3.0.2", folder, file_format, shards=2)
        shutil.rmtree(made)

    return make


def _picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (20, 14)) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), np.uint8)).convert(mode)


def _make_pictures(folder: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    _picture(0).save(folder / "a.png")
    _picture(1, "P").save(folder / "b.png", transparency=3)
    Image.fromarray(np.arange(280, dtype=np.uint16).reshape(14, 20) * 200).save(folder / "c.png")
    _picture(2).save(folder / "d.jpg", exif=exif)
    _picture(3).save(folder / "e.jpg", progressive=True)
    frames = [_picture(4), _picture(5)]
    frames[0].save(folder / "f.gif", save_all=True, append_images=frames[1:])
    _picture(6, "RGBA").save(folder / "g.webp")
    frames[0].save(folder / "h.webp", save_all=True, append_images=frames[1:])
    _picture(7).save(folder / "i.tiff", compression="tiff_lzw")
    _picture(8).save(folder / "j.bmp")
    _picture(9, "L").save(folder / "k.ppm")
    _picture(10, "RGBA", (16, 16)).save(folder / "l.ico")


def _read_pictures(folder: Path) -> str:
    return fingerprint([images.load(path, 32) for path in sorted(folder.iterdir())])


def _make_folder(folder: Path) -> None:
    for part, count in (("train", 3), ("test", 1)):
        for label in ("cat", "dog"):
            (folder / part / label).mkdir(parents=True)
            for i in range(count):
                _picture(i, size=(12, 12)).save(folder / part / label / f"{i}.{'png' if i else 'jpg'}")


READERS = (
    Reader(
        "CIFAR, binary archive", _make_archive(_BINARY), _read_archive(_BINARY),
        checked=False, nodes=False, share=0.5,
    ),
    Reader(
        "CIFAR, Python archive", _make_archive(_PYTHON), _read_archive(_PYTHON), checked=False, nodes=False,
    ),
    Reader(
        "CIFAR, binary files", lambda folder: unpack(_MINI, _BINARY, folder), _load,
        prepare=_prepare, share=0.5,
    ),
    Reader("CIFAR, pickles", lambda folder: unpack(_MINI, _PYTHON, folder), _load, prepare=_prepare),
    Reader("CIFAR, Keras' npz", _make_npz, _load, prepare=_prepare, share=0.5),
    Reader("TFDS folder, array_record", _make_prepared("array_record"), _load, prepare=_prepare),
    Reader("TFDS folder, tfrecord", _make_prepared("tfrecord"), _load, prepare=_prepare, share=0.5),
    # pictures may come out of pipes; one may say that it is large: see `images.read` for what that may take
    Reader("pictures", _make_pictures, _read_pictures, checked=False, nodes=False, megabytes=1_200, share=3),
    Reader(
        "folder of pictures", _make_folder, lambda folder: picture_folder.load(str(folder)).digest,
        checked=False, megabytes=1_200, prepare=_prepare,
    ),
)  # fmt: skip
