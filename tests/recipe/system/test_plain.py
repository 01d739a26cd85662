"""Plain files, and what may stand in their place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from recipe.system import plain


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


OTHERS: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _socket,
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_file_is_neither_opened_nor_waited_for(other: str, tmp_path: Path):
    OTHERS[other](tmp_path / "x")
    for read in (plain.check, lambda path: plain.read(path, 10)):
        with pytest.raises(ValueError, match=f"^it is {other}, no file$"):
            read(tmp_path / "x")
    if other != "a socket":  # which nobody can open
        what = "a link" if other == "a device" else other
        with pytest.raises(OSError, match=f"x is {what}, no file") as error:
            plain.open_own(tmp_path / "x")
        assert error.value.filename == str(tmp_path / "x")


def test_a_file_is_read_and_appended_to(tmp_path: Path):
    for content in (b"some", b"thing"):
        with os.fdopen(plain.open_own(tmp_path / "x"), "ab") as file:
            file.write(content)
    (tmp_path / "link").symlink_to("x")
    assert plain.read(tmp_path / "x", 9) == plain.read(tmp_path / "link", 9) == b"something"
    with pytest.raises(ValueError, match="it has more than 0 MiB"):
        plain.read(tmp_path / "x", 8)


def test_a_file_larger_than_the_memory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x").write_bytes(b"1234567")
    monkeypatch.setattr(plain, "most_memory", lambda: 6.0)
    with pytest.raises(ValueError, match="it has 7 bytes, more than this machine's memory"):
        plain.check(tmp_path / "x")


@pytest.mark.parametrize("target", ["theirs", "nowhere"])
def test_nothing_is_written_through_a_link(target: str, tmp_path: Path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "x").symlink_to(target)
    with pytest.raises(OSError, match="x is a link, no file"):
        plain.open_own(tmp_path / "x")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "nowhere").exists()
