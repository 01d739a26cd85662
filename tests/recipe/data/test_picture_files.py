"""Which files of a folder are pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.data import picture_files
from recipe.data.picture_files import Found
from recipe.system.errors import UserError

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_find_sorts_whatever_the_file_system_says(tmp_path: Path):
    names = [f"{i:02}.png" for i in np.random.default_rng(0).permutation(50)]
    touch(*(tmp_path / name for name in names))
    assert picture_files.find([str(tmp_path)]).pictures == [tmp_path / name for name in sorted(names)]


def test_find_searches_folders(tmp_path: Path):
    touch(*(tmp_path / name for name in ("b.png", "a.JPG", "notes.txt", "deep/c.gif")))
    found = picture_files.find([str(tmp_path)])
    assert [path.name for path in found.pictures] == ["a.JPG", "b.png", "c.gif"]
    assert found.left_out == []
    assert picture_files.find([str(tmp_path / "notes.txt")]) == Found([tmp_path / "notes.txt"], [])
    (tmp_path / "none").mkdir()
    for name, reason in (
        ("none", "none$"),
        ("absent", "absent: there is no such file or folder$"),
        ("https://example.com/a.jpg", "^https://example.com/a.jpg: .*download it first"),
    ):
        with pytest.raises(UserError, match=reason):
            picture_files.find([name if "://" in name else str(tmp_path / name)])


def test_an_empty_path_is_not_this_folder():
    with pytest.raises(UserError, match="an empty path"):
        picture_files.find([""])


def test_standard_input_can_be_read_once():
    assert picture_files.find(["-"]).pictures == [Path("/dev/stdin")]
    with pytest.raises(UserError, match="standard input is named twice"):
        picture_files.find(["-", "/dev/stdin"])


def test_several_paths_keep_their_order(tmp_path: Path):
    touch(tmp_path / "b/1.png", tmp_path / "a/2.png", tmp_path / "3.png")
    paths = [str(tmp_path / name) for name in ("b", "3.png", "a")]
    assert [path.name for path in picture_files.find(paths).pictures] == ["1.png", "3.png", "2.png"]


@pytest.mark.parametrize(
    "name",
    [
        "._a.png", ".hidden.png", "paper.pdf", "film.mpg", "Thumbs.db", "desktop.ini", ".DS_Store",
        "@eaDir/a.png", "__MACOSX/a.png", ".ipynb_checkpoints/a.png", "#recycle/a.png", "lost+found/a.png",
        "$RECYCLE.BIN/a.png", "System Volume Information/a.png", "deep/@EADIR/b/a.png", "a.png.bak",
        "SYNOFILE_THUMB_M.jpg", "@eaDir/a.heic", "folder.png/notes.txt",
    ],
)  # fmt: skip
def test_what_a_system_left_behind_is_no_picture(tmp_path: Path, name: str):
    touch(tmp_path / "photo.png", tmp_path / name)
    assert picture_files.find([str(tmp_path)]) == Found([tmp_path / "photo.png"], [])
    (tmp_path / "photo.png").unlink()
    with pytest.raises(UserError, match=r"^no image in the folder "):
        picture_files.find([str(tmp_path)])


def test_such_a_folder_that_is_named_is_searched(tmp_path: Path):
    touch(tmp_path / "@eaDir" / "a.png")
    assert picture_files.find([str(tmp_path / "@eaDir")]).pictures == [tmp_path / "@eaDir" / "a.png"]


def test_subfolders(tmp_path: Path):
    for name in ("dog", "cat", "@eaDir", "__MACOSX", ".git", "lost+found", "#recycle"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "file")
    assert picture_files.subfolders(tmp_path) == ["cat", "dog"]


def test_formats_that_pillow_cannot_read_are_left_out_by_name(tmp_path: Path):
    touch(tmp_path / "a.png", tmp_path / "c.jxl", tmp_path / "raw.NEF")
    for i in range(7):
        (tmp_path / f"{i}.HEIC").write_bytes(HEIC)
    found = picture_files.find([str(tmp_path)])
    assert found.pictures == [tmp_path / "a.png"]
    heic = ", ".join(str(tmp_path / f"{i}.HEIC") for i in range(5))
    assert picture_files.notice(found.left_out) == (
        f"left out 9 images that Pillow can't read: 7 HEIC ({heic} and 2 more), "
        f"1 JPEG XL ({tmp_path}/c.jxl), 1 camera raw ({tmp_path}/raw.NEF); convert them to JPEG or PNG"
    )
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"^Pillow can read none of the images in the folder .*: 7 HEIC \("):
        picture_files.find([str(tmp_path)])


def test_what_pillow_recognises_is_a_picture_whatever_its_suffix_but_for_camera_raw(tmp_path: Path):
    """A preview inside a raw file is not the photograph."""
    for name in ("jpeg.heic", "tiff.nef"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, name.partition(".")[0])
    found = picture_files.find([str(tmp_path)])
    assert found == Found([tmp_path / "jpeg.heic"], [(tmp_path / "tiff.nef", "camera raw")])


def test_a_link_to_nowhere_is_a_picture_that_is_missing(tmp_path: Path):
    (tmp_path / "a.png").symlink_to(tmp_path / "absent")
    assert picture_files.find([str(tmp_path)]).pictures == [tmp_path / "a.png"]


def test_a_pipe_in_a_folder_is_no_picture(tmp_path: Path):
    touch(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert picture_files.find([str(tmp_path)]).pictures == [tmp_path / "a.png"]


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path / "a.png", tmp_path / "closed" / "b.png")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"^can't read the folder .*closed: Permission denied$"):
        picture_files.find([str(tmp_path)])
