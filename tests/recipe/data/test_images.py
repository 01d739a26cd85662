"""Image files of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.data import images
from recipe.system.errors import UserError

RNG = np.random.default_rng(0)


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
    assert images.load_original(tmp_path / "a.png", 45).shape == ((15, 45, 3) if wide else (45, 15, 3))
    assert images.load_original(tmp_path / "a.png", 500).shape[:2] == ((30, 90) if wide else (90, 30))


def test_unreadable_images_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    good = tmp_path / "good.png"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "empty.png", "text.png"):
        with pytest.raises(UserError, match=name) as error:
            images.load(tmp_path / name, 32)
        assert len(str(error.value).splitlines()) == 1
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match="decompression bomb"):
        images.load(good, 32)


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


def test_the_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.load(tmp_path / "a.gif", 8), np.full((8, 8, 3), [255, 0, 0]))


@pytest.mark.parametrize(("width", "height"), [(3000, 1), (1, 3000)])
def test_a_thin_line_still_makes_a_square(tmp_path: Path, width: int, height: int):
    Image.new("RGB", (width, height), "red").save(tmp_path / "a.png")
    assert (images.load(tmp_path / "a.png", 32) == np.full((32, 32, 3), [255, 0, 0])).all()
    assert max(images.load_original(tmp_path / "a.png", 64).shape[:2]) == 64


def test_find_sorts_whatever_the_file_system_says(tmp_path: Path):
    names = [f"{i:02}.png" for i in RNG.permutation(50)]
    for name in names:
        (tmp_path / name).touch()
    assert images.find([str(tmp_path)]) == [tmp_path / name for name in sorted(names)]


def test_what_is_no_picture_of_its_own_is_passed_over_in_folders(tmp_path: Path):
    for name in ("a.png", "._a.png", "paper.pdf", "film.mpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert images.find([str(tmp_path)]) == [tmp_path / "a.png"]


def test_a_picture_that_is_too_large_to_be_safe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pillow itself only warns between one and two times its limit."""
    Image.new("RGB", (40, 40)).save(tmp_path / "bomb.png")
    for limit in (1000, 500):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match=r"bomb\.png") as error:
            images.load(tmp_path / "bomb.png", 32)
        assert len(str(error.value).splitlines()) == 1


def test_find_searches_folders(tmp_path: Path):
    for name in ("b.png", "a.JPG", "notes.txt", "deep/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in images.find([str(tmp_path)])] == ["a.JPG", "b.png", "c.gif"]
    assert images.find([str(tmp_path / "notes.txt")]) == [tmp_path / "notes.txt"]
    (tmp_path / "none").mkdir()
    for name in ("none", "absent"):
        with pytest.raises(UserError, match=name):
            images.find([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("name", "data"), [("a.ppm", b"P6 0 0 255\n"), ("a.gif", b"GIF89a" + bytes(7) + b";")]
)
def test_a_picture_without_pixels_is_named(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    for load in (images.load, images.load_original):
        with pytest.raises(UserError, match=name):
            load(tmp_path / name, 32)


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
