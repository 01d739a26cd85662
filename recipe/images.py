"""Image files of any format and size → the square RGB pictures that a network takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from recipe.errors import UserError


def find(paths: Sequence[str]) -> list[Path]:
    """The image files meant by paths: files as given, folders searched for images, in sorted order.

    Raises:
      UserError: for a path that does not exist, or a folder without any image.
    """
    suffixes = Image.registered_extensions()
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            images = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if not images:
                raise UserError(f"no image in the folder {path}")
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"no image at {path}: there is no such file or folder")
    return found


def load(path: Path, size: int) -> np.ndarray:
    """Load an image as uint8 (size, size, 3) RGB: shorter side scaled to `size`, centre cropped.

    A size × size image comes through unchanged. Scaling is bicubic and antialiased, which keeps edges
    sharper than bilinear on the way down to 32 pixels.

    Raises:
      UserError: if the file is not a readable image.
    """
    return np.asarray(ImageOps.fit(_open(path), (size, size), Image.Resampling.BICUBIC))


def load_original(path: Path, longest: int) -> np.ndarray:
    """Load an image as uint8 (H, W, 3) RGB, scaled down until no side has more than `longest` pixels."""
    image = _open(path)
    image.thumbnail((longest, longest))
    return np.asarray(image)


def _open(path: Path) -> Image.Image:
    """Decode to RGB: upright, first frame, transparency on white."""
    try:
        with warnings.catch_warnings():
            # a picture that may be a decompression bomb is refused, not just warned of
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
        if image.mode.startswith(("I", "F")):
            image = _to_8_bit(image)
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise many types for a damaged file
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"can't read the image {path}: {reason}") from error


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale deep grey images, which Pillow would clip: 16-bit by its range, floats from 0…1.

    Pillow opens 16-bit PNGs as "I;16" or "I"; values beyond 16 bits, or floats beyond 1, are scaled by
    their largest value instead.
    """
    values = np.asarray(image, np.float64)
    full = 1.0 if image.mode == "F" else 65535.0
    top = max(full, float(np.max(values)))
    return Image.fromarray((values.clip(0) / top * 255).round().astype(np.uint8))
