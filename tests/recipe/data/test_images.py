"""Image files of every kind."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.data import images, picture_files
from recipe.system.errors import UserError

RNG = np.random.default_rng(0)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def test_an_image_of_the_right_size_comes_through_unchanged(tmp_path: Path):
    pixels = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 32), pixels)


def test_modes_become_rgb(tmp_path: Path):
    """Grey, 16-bit grey, float, palette, CMYK, and transparency on white."""
    grey = np.array([[0, 128], [255, 64]], np.uint8)
    rgb = np.repeat(grey[..., None], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(grey.astype(np.float32) / 255).save(tmp_path / "float.tiff")
    Image.fromarray(rgb).quantize(4).save(tmp_path / "palette.png")
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.tiff")
    Image.fromarray(np.dstack([rgb, np.full((2, 2), 255, np.uint8)])).save(tmp_path / "alpha.png")
    for path in tmp_path.iterdir():
        np.testing.assert_allclose(images.load(path, 2), rgb, atol=1, err_msg=path.name)
    clear = np.dstack([rgb, np.zeros((2, 2), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (images.load(tmp_path / "clear.png", 2) == 255).all()


def test_a_turned_photograph_is_set_upright(tmp_path: Path):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255  # the sky
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it upright
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 16), upright)


@pytest.mark.parametrize("wide", [True, False])
def test_the_centre_is_kept(tmp_path: Path, wide: bool):
    bands = np.zeros((30, 90, 3), np.uint8)
    for i in range(3):
        bands[:, 30 * i : 30 * i + 30, i] = 255
    Image.fromarray(bands if wide else bands.transpose(1, 0, 2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 30), np.full((30, 30, 3), [0, 255, 0]))
    assert images.load(tmp_path / "a.png", 8).shape == (8, 8, 3)
    assert images.thumbnail(images.read(tmp_path / "a.png"), 45).shape == (
        (15, 45, 3) if wide else (45, 15, 3)
    )
    assert images.thumbnail(images.read(tmp_path / "a.png"), 500).shape[:2] == (
        (30, 90) if wide else (90, 30)
    )


def test_unreadable_images_are_named(tmp_path: Path):
    good = tmp_path / "good.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "empty.png", "text.png"):
        with pytest.raises(UserError, match=name) as error:
            images.load(tmp_path / name, 32)
        assert len(str(error.value).splitlines()) == 1


def test_deep_grey_keeps_its_range(tmp_path: Path):
    values = np.array([[0, 32768, 65535]], np.uint16).repeat(3, axis=0)
    expected = np.array([0, 128, 255], np.uint8)[None, :, None].repeat(3, axis=0).repeat(3, axis=2)
    Image.fromarray(values).save(tmp_path / "16.png")
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "32.tiff")
    Image.fromarray((values / 65535).astype(np.float32)).save(tmp_path / "unit.tiff")
    Image.fromarray((values / 257).astype(np.float32)).save(tmp_path / "byte.tiff")
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(images.load(path, 3), expected, err_msg=path.name)


@pytest.mark.parametrize(
    ("value", "dtype"), [(32768, np.uint16), (32768, np.int32), (0.5, np.float32), (128, np.float32)]
)
def test_a_dim_picture_stays_dim(tmp_path: Path, value: float, dtype: type):
    """No picture is stretched to its own brightest pixel."""
    Image.fromarray(np.full((4, 4), value, dtype)).save(tmp_path / "a.tiff")
    assert (images.load(tmp_path / "a.tiff", 4) == 128).all()


def test_values_that_are_no_brightness_are_black(tmp_path: Path):
    values = np.array([[np.nan, np.inf, -1], [-np.inf, 1, 0]], np.float32).repeat([2, 1], axis=0)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    expected = [[0, 0, 0], [0, 0, 0], [0, 255, 0]]
    np.testing.assert_array_equal(images.load(tmp_path / "a.tiff", 3)[..., 0], expected)


def test_black_and_white_has_no_grey(tmp_path: Path):
    pixels = np.array([[True, False], [False, True]])
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 2), np.dstack([pixels * np.uint8(255)] * 3))


def test_cmyk_photographs_keep_their_colours(tmp_path: Path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    np.testing.assert_allclose(
        images.load(tmp_path / "red.jpg", 32), np.full((32, 32, 3), [255, 0, 0]), atol=2
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_white(tmp_path: Path, mode: str):
    """The left half is opaque black, the right half is transparent black."""
    alpha = np.array([[255, 0]] * 2, np.uint8)
    if mode == "P":
        picture = Image.fromarray(alpha // 255)
        picture.putpalette([0, 0, 0] * 2)
        picture.save(tmp_path / "a.png", transparency=0)
    else:
        black = Image.new("RGB" if mode == "RGBA" else "L", (2, 2))
        black.putalpha(Image.fromarray(alpha))
        assert black.mode == mode
        black.save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 2)[..., 0], [[0, 255]] * 2)


def test_half_transparency_is_half_white(tmp_path: Path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 128)).save(tmp_path / "a.png")
    assert (images.load(tmp_path / "a.png", 2) == [255, 127, 127]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_upright_in_every_orientation(tmp_path: Path, orientation: int):
    upright = np.zeros((32, 32, 3), np.uint8)
    upright[:16, :16, 0] = upright[16:, :16, 1] = upright[:16, 16:, 2] = 255  # no symmetry
    stored = {  # EXIF 2.3: where the stored rows and columns lie in the upright picture
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(
        tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0
    )
    np.testing.assert_allclose(images.load(tmp_path / "a.jpg", 32).astype(int), upright, atol=3)


def test_damaged_metadata_does_not_matter(tmp_path: Path):
    pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\0\0MM no directory")
    np.testing.assert_array_equal(images.load(tmp_path / "a.png", 8), pixels)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tif", "a.mpo"])
def test_the_first_frame_of_several(tmp_path: Path, name: str):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(images.load(tmp_path / name, 8), np.full((8, 8, 3), [255, 0, 0]), atol=6)


@pytest.mark.filterwarnings("ignore")  # where a warning is an error, Pillow decodes less
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp", "bmp", "ppm", "ico", "jp2", "avif"])
def test_a_damaged_picture_is_read_or_refused_in_one_line(suffix: str, tmp_path: Path):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
    sound = path.read_bytes()
    refused = []
    for i in range(60):
        damaged = bytearray(sound)
        if i % 2:
            del damaged[int(RNG.integers(len(sound))) :]
        for position in RNG.integers(0, min(len(damaged), 200), 5) if damaged else ():
            damaged[position] ^= int(RNG.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert images.load(path, 8).shape == (8, 8, 3)
        except images.UnreadableImage as error:
            refused.append(str(error))
    assert refused
    for message in refused:
        assert re.fullmatch(rf"can't read the image {path}: \S[^\r\n]*", message)


@pytest.mark.parametrize(("width", "height"), [(3000, 1), (1, 3000)])
def test_a_thin_line_still_makes_a_square(tmp_path: Path, width: int, height: int):
    Image.new("RGB", (width, height), "red").save(tmp_path / "a.png")
    assert (images.load(tmp_path / "a.png", 32) == np.full((32, 32, 3), [255, 0, 0])).all()
    assert max(images.thumbnail(images.read(tmp_path / "a.png"), 64).shape[:2]) == 64


# Pictures of more pixels than Pillow's limit, which the tests set to 1,000.


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(images, "KEPT_PIXELS", 200)
    monkeypatch.setattr(images, "_BAND_PIXELS", 300)


def halves(width: int, height: int) -> np.ndarray:
    """Red above, blue below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = pixels[height // 2 :, :, 2] = 255
    return pixels


@pytest.mark.parametrize(("size", "fits"), [((40, 50), True), ((40, 51), False)])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif", "a.ppm", "progressive.jpg"])
def test_up_to_twice_the_limit_a_picture_is_reduced(
    name: str, size: tuple[int, int], fits: bool, tmp_path: Path, small_limit: None
):
    options = {"progressive": True} if name == "progressive.jpg" else {}
    Image.fromarray(halves(*size)).save(tmp_path / name, **options)
    if not fits:
        with pytest.raises(UserError, match=rf"{name}: .*decompression bomb") as error:
            images.read(tmp_path / name)
        assert len(str(error.value).splitlines()) == 1
        return
    image = images.read(tmp_path / name)
    assert image.size == (10, 13)
    np.testing.assert_allclose(images.square(image, 2).astype(int), halves(2, 2), atol=60)


def test_a_large_jpeg_is_reduced_while_it_is_decoded(tmp_path: Path, small_limit: None):
    Image.fromarray(halves(50, 60)).save(tmp_path / "a.jpg")
    assert images.read(tmp_path / "a.jpg").size == (13, 15)
    Image.fromarray(halves(50, 61)).save(tmp_path / "b.jpg")
    with pytest.raises(UserError, match="decompression bomb"):
        images.read(tmp_path / "b.jpg")


def test_large_pictures_of_formats_that_take_much_memory_are_refused(tmp_path: Path, small_limit: None):
    Image.fromarray(halves(30, 33)).save(tmp_path / "a.webp")
    assert images.read(tmp_path / "a.webp").size == (30, 33)
    Image.fromarray(halves(30, 34)).save(tmp_path / "b.webp")
    with pytest.raises(
        UserError, match=r"b\.webp: with 1,020 pixels it is too large for WEBP, .*convert it to"
    ):
        images.read(tmp_path / "b.webp")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16", "F"])
def test_bands_are_seamless_in_every_mode(
    mode: str, tmp_path: Path, small_limit: None, monkeypatch: pytest.MonkeyPatch
):
    """Reduced in bands, a picture is what it is when it is converted and reduced as a whole."""
    values = RNG.integers(0, 256, (41, 37), dtype=np.uint8)
    picture = Image.fromarray(values)
    if mode in ("I;16", "F"):
        picture = Image.fromarray(values.astype({"I;16": np.uint16, "F": np.float32}[mode]) * 3)
    elif mode in ("LA", "RGBA"):
        picture = picture.convert(mode[:-1])
        picture.putalpha(Image.fromarray(values.T.copy().reshape(41, 37)))
    else:
        picture = picture.convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "a.tif")
    in_bands = np.asarray(images.read(tmp_path / "a.tif"))
    assert in_bands.shape == (14, 13, 3)
    monkeypatch.setattr(images, "_BAND_PIXELS", 10**6)
    np.testing.assert_array_equal(in_bands, images.read(tmp_path / "a.tif"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    np.testing.assert_array_equal(in_bands, images.read(tmp_path / "a.tif").reduce(3))


def test_a_large_turned_photograph_is_set_upright(tmp_path: Path, small_limit: None):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(halves(40, 48))))
    for name in ("a.png", "a.jpg"):
        turned.save(tmp_path / name, exif=exif)
        np.testing.assert_allclose(images.load(tmp_path / name, 2).astype(int), halves(2, 2), atol=25)


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg", "a.tif"])
def test_a_photograph_of_108_megapixels_takes_bounded_memory(name: str, tmp_path: Path):
    options = {"progressive": True} if name == "progressive.jpg" else {}
    Image.linear_gradient("L").resize((12000, 9000)).convert("RGB").save(tmp_path / name, **options)
    program = f"""
import resource
from pathlib import Path
from recipe.data import images, picture_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = images.load(Path({str(tmp_path / name)!r}), 32)
assert picture[0].mean() < 8 < 247 < picture[-1].mean()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 550  # MB


# What is no file, and what Pillow does not know.


def pipe(path: Path, data: bytes) -> threading.Thread:
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=[data])
    writer.start()
    return writer


def test_a_named_pipe_is_read(tmp_path: Path):
    pixels = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    writer = pipe(tmp_path / "pipe", (tmp_path / "a.png").read_bytes())
    np.testing.assert_array_equal(images.load(tmp_path / "pipe", 64), pixels)
    writer.join()


class Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes, terminal: bool = False):
        super().__init__(io.BytesIO(data))
        self.isatty = lambda: terminal  # type: ignore[method-assign]


def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (stdin,) = picture_files.find(["-"]).pictures
    assert stdin == Path("/dev/stdin")
    pixels = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdin", Stdin((tmp_path / "a.png").read_bytes()))
    np.testing.assert_array_equal(images.load(stdin, 8), pixels)
    with pytest.raises(UserError, match=r"^can't read the image /dev/stdin: it is empty$"):
        images.load(stdin, 8)
    for nothing, reason in ((Stdin(b"", terminal=True), "is a terminal"), (None, "is closed")):
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(UserError, match=reason):
            images.load(stdin, 8)


def test_a_pipe_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "_MOST_BYTES", 10_000)
    with pytest.raises(UserError, match="more than 10,000 bytes came out of the pipe"):
        images.load(Path("/dev/zero"), 8)


WHAT_IT_IS = {
    "heic.jpg": (HEIC, "HEIC, which Pillow can't read; convert it to JPEG or PNG"),
    "heic.HEIC": (b"", "HEIC, which"),
    "jxl": (b"\xff\x0a" + bytes(20), "JPEG XL, which"),
    "boxed.jpg": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL, which"),
    "preview.cr2": (b"II*\0", "camera raw, which"),
    "fuji": (b"FUJIFILMCCD-RAW 0201", "camera raw, which"),
    "canon": (b"\0\0\0\x18ftypcrx \0\0\0\x01", "camera raw, which"),
    "film.jpg": (b"\0\0\0\x18ftypisom\0\0\0\x01", "a video"),
    "page.jpg": (b"\n<!DOCTYPE html>\n<html>", "a web page"),
    "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "drawing": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG, which"),
    "paper.jpg": (b"%PDF-1.7", "a PDF"),
    "photos.zip": (b"PK\x03\x04" + bytes(30), "an archive, not a picture; unpack it first"),
    "photos.tar": (bytes(257) + b"ustar\x0000", "an archive"),
    "empty.jpg": (b"", "empty"),
    "zeros.jpg": (bytes(1000), "damaged, or of a format that Pillow does not know"),
}


@pytest.mark.parametrize("name", WHAT_IT_IS)
def test_the_reason_says_what_a_file_is(name: str, tmp_path: Path):
    data, reason = WHAT_IT_IS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(images.UnreadableImage, match=f"{name}: it is {re.escape(reason)}") as error:
        images.load(tmp_path / name, 8)
    assert str(error.value) == f"can't read the image {tmp_path / name}: {error.value.reason}"
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data"), [("a.ppm", b"P6 0 0 255\n"), ("a.gif", b"GIF89a" + bytes(7) + b";")]
)
def test_a_picture_without_pixels_is_named(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=name):
        images.read(tmp_path / name)


def test_a_reason_is_given_without_the_path_again(tmp_path: Path):
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(UserError) as error:
            images.load(path, 32)
        assert str(error.value).count(str(path)) == 1


def test_scaling_down_is_antialiased(tmp_path: Path):
    """A chessboard of single pixels becomes an even grey; picked pixels would be black or white."""
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    np.testing.assert_allclose(images.load(tmp_path / "a.png", 32), 127.5, atol=3)
