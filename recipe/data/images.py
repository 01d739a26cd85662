"""Image files of any format and size, as the square RGB arrays that a network takes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recipe.system.errors import UserError
from recipe.system.files import expanded

# Pillow knows these suffixes, but can only write the format, or needs other programs to decode it.
NOT_DECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF", "WMF"})


def find(paths: Sequence[str]) -> list[Path]:
    """The image files that `paths` name: files as they are, folders searched at any depth, in sorted order.

    In folders, hidden files and folders are skipped (macOS makes "._name.jpg" files that hold no picture),
    and so are links to folders.

    Raises:
      UserError: for a path that does not exist, or a folder without any image.
    """
    suffixes = {
        s for s, file_format in Image.registered_extensions().items() if file_format not in NOT_DECODED
    }
    found: list[Path] = []
    for path in map(expanded, paths):
        if path.is_dir():
            images = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in suffixes and not _hidden(file.relative_to(path)) and file.is_file()
            )
            if not images:
                raise UserError(f"no image in the folder {path}")
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"no image at {path}: there is no such file or folder")
    return found


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def load(path: Path, size: int) -> np.ndarray:
    """Load an image as uint8 (size, size, 3) RGB: shorter side scaled to `size`, centre cropped.

    A size × size image comes through unchanged. Scaling is bicubic and antialiased, which keeps edges
    sharper than bilinear on the way down to 32 pixels.

    Raises:
      UserError: if the file is not a readable image.
    """
    return np.asarray(ImageOps.fit(_open(path), (size, size), Image.Resampling.BICUBIC))


def load_original(path: Path, longest: int) -> np.ndarray:
    """Load an image as uint8 (H, W, 3) RGB, scaled down until no side has more than `longest` pixels.

    Raises:
      UserError: if the file is not a readable image.
    """
    image = _open(path)
    image.thumbnail((longest, longest))
    return np.asarray(image)


def _open(path: Path) -> Image.Image:
    """Decode to RGB: upright, first frame, transparency on white."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged metadata, which does not matter here
            # a picture that may be a decompression bomb is refused, not just warned of
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _to_rgb(_upright(image))
    except Exception as error:  # Pillow's decoders raise many types for a damaged file
        raise UserError(f"can't read the image {path}: {_reason(error)}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation that a camera noted in the EXIF data, if that can be read."""
    with contextlib.suppress(Exception):  # damaged metadata raise many types; the pixels are sound
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale deep grey images, which Pillow would clip. Modes "I;16" and "I" hold 16 bits per pixel.

    Floats go to 1, or to 255 if one is larger than 1. Whatever exceeds its range is scaled by the
    largest value instead.
    """
    values = np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0).clip(min=0)
    largest = float(values.max())
    usual = 65535 if image.mode.startswith("I") else 1 if largest <= 1 else 255
    return Image.fromarray((values / max(usual, largest) * 255).round().astype(np.uint8))


def _reason(error: Exception) -> str:
    """One line about an error, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty or damaged, or of a format that Pillow does not know"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)
