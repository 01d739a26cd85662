"""Image files of any format and size, as the square RGB arrays that a network takes."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from recipe.data import formats, picture_files
from recipe.system.errors import UserError

KEPT_PIXELS = 2**22  # about what is kept of a picture that is too large to be decoded as a whole
_BAND_PIXELS = 2**22  # converted at a time
_MOST_BYTES = 2**29  # from a pipe
# Pillow decodes these formats into one array of 4 bytes per pixel; others take several times that.
_LEAN = frozenset({"BMP", "GIF", "JPEG", "MPO", "PNG", "PPM", "TIFF"})


class UnreadableImage(UserError):
    """An image that can't be read. `reason` is the message without the path."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"can't read the image {path}: {reason}")
        self.reason = reason


def load(path: Path, size: int) -> np.ndarray:
    """Load an image as uint8 (size, size, 3) RGB: `square` of `read`."""
    return square(read(path), size)


def read(path: Path) -> Image.Image:
    """Decode an image file, or a pipe, to RGB: upright, first frame, transparency on white.

    A picture of more than `Image.MAX_IMAGE_PIXELS` (89 million) is reduced by a whole number to about
    `KEPT_PIXELS`, in JPEG while it is decoded, so that it takes 1.1 GB at most. Twice as many pixels are read
    of formats that Pillow decodes without much memory, three times as many of a JPEG that is not progressive.

    Raises:
      UnreadableImage: if it is no image, damaged, too large, or of a format that Pillow does not decode.
    """
    try:
        source = _source(path)
        with warnings.catch_warnings():
            # about damaged metadata, which does not matter here, and sizes, which are checked
            warnings.simplefilter("ignore")
            with _opened(source) as image:
                return _decoded(image)
    except UnidentifiedImageError as error:
        raise UnreadableImage(path, f"it is {formats.what_it_is(_head(source))}") from error
    except Exception as error:  # Pillow's decoders raise many types for a damaged file
        raise UnreadableImage(path, _reason(error)) from error


def square(image: Image.Image, size: int) -> np.ndarray:
    """An RGB image as uint8 (size, size, 3): shorter side scaled to `size`, centre cropped.

    A size × size image comes through unchanged. Scaling is bicubic and antialiased, which keeps edges
    sharper than bilinear on the way down to 32 pixels.
    """
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC))


def thumbnail(image: Image.Image, longest: int) -> np.ndarray:
    """An RGB image as uint8 (H, W, 3), scaled down until no side has more than `longest` pixels."""
    small = image.copy()
    small.thumbnail((longest, longest))
    return np.asarray(small)


def _source(path: Path) -> Path | io.BytesIO:
    """The file itself, or what comes out of a pipe, which can be read only once and only forwards."""
    if path == picture_files.STDIN:
        if sys.stdin is None or sys.stdin.closed:
            raise ValueError("standard input is closed; pipe a picture into it")
        if sys.stdin.isatty():
            raise ValueError("standard input is a terminal; pipe a picture into it")
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    elif path.is_file():
        if name := formats.unreadable(path):
            raise ValueError(f"it is {formats.without_pillow(name)}")
        return path
    else:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES:,} bytes came out of the pipe; put the picture into a file")
    return io.BytesIO(data)


def _head(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[: formats.HEAD]
    with source.open("rb") as file:
        return file.read(formats.HEAD)


def _opened(source: Path | io.BytesIO) -> Image.Image:
    """The image, not yet decoded, if decoding it takes a bounded amount of memory."""
    try:
        image = Image.open(source)
    except Image.DecompressionBombError as error:
        large = _large_jpeg(source)
        if large is None:
            raise ValueError(f"{str(error).rstrip('.')}; scale it down") from error
        return large
    if not all(image.size):
        raise ValueError("it has no pixels")
    if _pixels(image) > _limit() and image.format not in _LEAN:
        raise ValueError(
            f"with {_pixels(image):,} pixels it is too large for {image.format}, which takes much memory to "
            "decode; scale it down, or convert it to JPEG or PNG"
        )
    return image


def _large_jpeg(source: Path | io.BytesIO) -> Image.Image | None:
    """A JPEG that Pillow refuses for its size, but that takes little memory, since it is reduced on the way.

    A progressive one is not reduced before all of it is in memory.
    """
    if isinstance(source, io.BytesIO):
        source.seek(0)
    try:
        image = JpegImageFile(source)
    except SyntaxError:  # it is no JPEG
        return None
    return image if not image.info.get("progressive") and _pixels(image) <= 3 * _limit() else None


def _pixels(image: Image.Image) -> int:
    return image.width * image.height


def _limit() -> float:
    return Image.MAX_IMAGE_PIXELS or math.inf  # None is what Pillow takes for no limit


def _decoded(image: Image.Image) -> Image.Image:
    """See `read`."""
    factor = 1
    if _pixels(image) > _limit():
        factor, whole = math.ceil(math.sqrt(_pixels(image) / KEPT_PIXELS)), image.width
        image.draft(None, (image.width // factor, image.height // factor))  # does nothing but for JPEG
        factor = max(1, factor * image.width // whole)
    image.load()
    rgb = _rgb_in_bands(image, factor)
    with contextlib.suppress(Exception):  # damaged metadata raise many types; the pixels are sound
        rgb.getexif()[ExifTags.Base.Orientation] = image.getexif()[ExifTags.Base.Orientation]
        ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def _rgb_in_bands(image: Image.Image, factor: int) -> Image.Image:
    """The image in RGB, each factor × factor pixels averaged.

    Bands of rows come one after another, since deep colours and transparency take many bytes for a pixel.
    """
    rows = max(1, _BAND_PIXELS // (image.width * factor)) * factor
    tops = range(0, image.height, rows)
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in tops]
    largest = max(_largest(image.crop(box)) for box in boxes) if _is_deep(image) else 0.0
    rgb = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    for box in boxes:
        rgb.paste(_to_rgb(image.crop(box), largest).reduce(factor), (0, box[1] // factor))
    return rgb


def _to_rgb(image: Image.Image, largest: float) -> Image.Image:
    if _is_deep(image):
        image = _to_8_bit(image, largest)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _brightness(image: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(image, np.float64), posinf=0, neginf=0).clip(min=0)


def _largest(image: Image.Image) -> float:
    return float(_brightness(image).max())


def _to_8_bit(image: Image.Image, largest: float) -> Image.Image:
    """Scale deep grey images, which Pillow would clip. Modes "I;16" and "I" hold 16 bits per pixel.

    Floats go to 1, or to 255 if one is larger than 1. Whatever exceeds its range is scaled by `largest`, the
    largest value of the whole picture, instead.
    """
    usual = 65535 if image.mode.startswith("I") else 1 if largest <= 1 else 255
    return Image.fromarray((_brightness(image) / max(usual, largest) * 255).round().astype(np.uint8))


def _reason(error: Exception) -> str:
    """One line about an error, without the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return next(iter(str(error).splitlines()), type(error).__name__)
