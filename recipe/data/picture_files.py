"""Which files are meant by a folder of pictures, and which were left there by a system."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from recipe.data import formats
from recipe.system.errors import UserError
from recipe.system.files import expanded
from recipe.system.terminal import printable

STDIN = Path("/dev/stdin")  # what "-" means

# Folders of thumbnails, trash and file systems, in lower case. Whatever begins with a dot counts, too.
_LEFT_BEHIND = frozenset(
    {
        "$recycle.bin", "recycler", "system volume information",  # Windows
        "__macosx", "network trash folder", "temporary items",  # macOS
        "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",  # network storage
        "lost+found", "__pycache__",
    }
)  # fmt: skip
_THUMBNAIL = "synofile_thumb"  # how Synology's own begin

MOST_NAMES = 5  # as many files of a format are named


@dataclasses.dataclass(frozen=True)
class Found:
    """What `find` found."""

    pictures: list[Path]
    left_out: list[tuple[Path, str]]  # (file, format) of pictures in folders that Pillow can't read


def find(paths: Sequence[str]) -> Found:
    """The picture files that `paths` name: files as they are, folders searched at any depth, in sorted order.

    "-" is standard input. In folders, a picture is what has a suffix of a format that Pillow reads. What a
    system left behind (`left_behind`) is skipped, and so are links to folders.

    Raises:
      UserError: for a path that is empty, does not exist or is an address, and for a folder that can't be
        read or holds no picture.
    """
    found = Found([], [])
    if "" in paths:
        raise UserError("an empty path is among the images: name a file or a folder")
    files = [STDIN if name == "-" else expanded(name) for name in paths]
    if files.count(STDIN) > 1:
        raise UserError("standard input is named twice among the images, and can be read only once")
    for path in files:
        if path.is_dir():
            in_folder = _search(path)
            found.pictures.extend(in_folder.pictures)
            found.left_out.extend(in_folder.left_out)
        elif path == STDIN or path.exists():
            found.pictures.append(path)
        else:
            raise UserError(f"no image at {path}: there is no such file or folder")
    return found


def left_behind(name: str) -> bool:
    """Whether a file or folder of this name is no picture and no class, but what a system made for itself."""
    lower = name.lower()
    return lower.startswith((".", _THUMBNAIL)) or lower in _LEFT_BEHIND


def subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in `folder` that no system left behind.

    Raises:
      OSError: if it can't be read.
    """
    return sorted(path.name for path in folder.iterdir() if not left_behind(path.name) and path.is_dir())


def describe(left_out: Sequence[tuple[Path, str]]) -> str:
    """Count and name files by their format: "2 HEIC (a.heic, b.heic), 1 JPEG XL (c.jxl)"."""
    parts = []
    for name in sorted({name for _, name in left_out}):
        files = [printable(str(file)) for file, its in left_out if its == name]
        more = f" and {len(files) - MOST_NAMES:,} more" if len(files) > MOST_NAMES else ""
        parts.append(f"{len(files):,} {name} ({', '.join(files[:MOST_NAMES])}{more})")
    return ", ".join(parts)


def notice(left_out: Sequence[tuple[Path, str]]) -> str:
    """The line that tells which pictures are left out."""
    images, them = ("image", "it") if len(left_out) == 1 else ("images", "them")
    return (
        f"left out {len(left_out):,} {images} that Pillow can't read: {describe(left_out)}; "
        f"convert {them} to JPEG or PNG"
    )


def _search(folder: Path) -> Found:
    """`find` for one folder."""

    def refuse(error: OSError) -> None:
        raise UserError(f"can't read the folder {error.filename}: {error.strerror}") from error

    files: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not left_behind(name)]
        files += [Path(where, name) for name in names if not left_behind(name)]
    # a link to nowhere is a picture that is missing, and said to be when it is opened
    named = sorted(f for f in files if formats.is_picture(f) and (f.is_file() or not f.exists()))
    left_out = [(file, name) for file in named if (name := formats.unreadable(file))]
    pictures = sorted(set(named) - {file for file, _ in left_out})
    if not pictures and left_out:
        raise UserError(
            f"Pillow can read none of the images in the folder {folder}: {describe(left_out)}; "
            "convert them to JPEG or PNG"
        )
    if not pictures:
        nothing = f": none of its {len(files):,} files is named as one (.jpg, .png, …)" if files else ""
        raise UserError(f"no image in the folder {folder}{nothing}")
    return Found(pictures, left_out)
