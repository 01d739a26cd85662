"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.system import files
from recipe.system.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file.txt"
    files.write_text(path, "old")

    def fail_halfway() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_file_may_be_read_by_whom_the_umask_lets(umask: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "file.txt", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o666 & ~umask


def test_writing_never_touches_the_umask_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is shared by all threads: a file that another one makes meanwhile would get the wrong mode."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"umask {mask:o}")

    monkeypatch.setattr(os, "umask", refuse)
    files.write_text(tmp_path / "file.txt", "text")
    with files.atomic_folder(tmp_path / "folder") as folder:
        folder.mkdir()
    assert (tmp_path / "folder").is_dir()


def test_the_temporary_name_is_hidden_and_keeps_the_suffix(tmp_path: Path):
    with files.atomic_path(tmp_path / "deeper" / "picture.png") as temporary:
        assert temporary.parent == tmp_path / "deeper"
        assert temporary.name.startswith(".picture-")
        assert temporary.suffix == ".png"


def test_threads_that_write_the_same_file_each_have_their_own_temporary_one(tmp_path: Path):
    path, texts = tmp_path / "file.txt", [str(i) * 10_000 for i in range(8)]
    threads = [threading.Thread(target=files.write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_never_replaces_a_folder(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path, "text")


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()

    def fail_halfway() -> None:
        with files.atomic_folder(path) as temporary:
            temporary.mkdir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_fails_goes_though_a_thread_still_writes_into_it(tmp_path: Path):
    """As tensorstore's do after an error."""

    def write(folder: Path) -> None:
        for _ in range(20):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "late").touch()
            time.sleep(0.01)

    def fail() -> None:
        with files.atomic_folder(tmp_path / "7") as new:
            threads.append(threading.Thread(target=write, args=[new]))
            threads[0].start()
            raise ZeroDivisionError

    threads: list[threading.Thread] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    threads[0].join()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [files.atomic_path, files.atomic_folder])
def test_a_folder_that_must_be_there_is_not_made_anew(kind: Any, tmp_path: Path):
    gone, path = tmp_path / "run", tmp_path / "run" / "checkpoints" / "7"

    def write(*, vanish: bool) -> None:
        with kind(path, below=gone) as new:
            if vanish:
                shutil.rmtree(gone)
                new.parent.mkdir(parents=True)  # as orbax does
            new.mkdir() if kind is files.atomic_folder else new.touch()

    with pytest.raises(FileNotFoundError, match=str(gone)):
        write(vanish=False)
    assert not gone.exists()
    gone.mkdir()
    write(vanish=False)
    assert path.exists()
    if kind is files.atomic_folder:
        with pytest.raises(FileNotFoundError, match=str(path.parent)):
            write(vanish=True)
        assert not path.exists()


def test_a_new_folder_replaces_the_old_one(tmp_path: Path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with files.atomic_folder(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_never_absent_but_between_two_renames(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whichever operation a kill comes at; where there is no exchange, the next call finds the old one."""
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    path = tmp_path / "folder"

    class Kill(BaseException):
        pass

    def write(name: str) -> None:
        with files.atomic_folder(path) as new:
            new.mkdir()
            (new / name).touch()

    for at in range(4):
        if path.exists():
            files.remove(path)
        write("old")
        calls = iter(range(9))

        def killed(
            self: Path, target: Path, rename: Any = Path.rename, calls: Any = calls, at: int = at
        ) -> Path:
            if next(calls) == at:
                raise Kill
            return Path(rename(self, target))

        with monkeypatch.context() as patch, contextlib.suppress(Kill):
            patch.setattr(Path, "rename", killed)
            write("new")
        if exchange:
            assert path.exists()
        files.sweep(tmp_path)
        assert [file.name for file in path.iterdir()] in (["old"], ["new"])
        assert list(tmp_path.iterdir()) == [path]


def test_a_sweep_takes_what_the_dead_left_and_no_more(tmp_path: Path):
    kept = [tmp_path / name for name in (".hidden", "data-0123456789abcdef", ".x-0123456789ABCDEF", ".lock")]
    for path in kept:
        path.touch()
    (tmp_path / ".config-0123456789abcdef.json").touch()
    (tmp_path / ".4-0123456789abcdef").mkdir()
    with files.atomic_path(tmp_path / "file.txt") as mine, files.atomic_folder(tmp_path / "folder") as new:
        new.mkdir()
        files.sweep(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([*kept, mine, new.parent])
        mine.write_text("text")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "file.txt", tmp_path / "folder"])


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/file\.txt'"),
        files.atomic_path(tmp_path / "file.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9+.-]{1,8}", fullmatch=True),
    st.text(max_size=20),
    st.sampled_from(["", " "]),
)
def test_an_address_is_no_path_whatever_its_scheme(scheme: str, rest: str, before: str):
    with pytest.raises(UserError, match=r"only local paths are|without file://"):
        files.expanded(f"{before}{scheme}:/{rest}")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="~:"), min_size=1))
def test_a_path_without_a_colon_is_what_it_was(text: str):
    assert files.expanded(text) == Path(text)


@pytest.mark.parametrize("path", ["C:/x", "a:b", "gs:b", "./gs://b", "://x", "1://x", "folder/https://x"])
def test_what_only_looks_like_an_address_is_a_path(path: str):
    assert files.expanded(path) == Path(path)


@pytest.mark.parametrize(
    ("address", "what_to_do"),
    [
        ("gs://b/run", "name a local one, and to read what is there, download it first (gsutil cp -r …)"),
        ("HTTPS://x.org/cat.jpg", "https:// is not supported"),
        ("hf://u/m", "hf download"),
        ("ftp://x", "download it first"),
        ("file:///tmp/x", "paths are given without file://"),
    ],
)
def test_an_address_gets_one_line_that_says_what_to_do(address: str, what_to_do: str):
    with pytest.raises(UserError) as error:
        files.expanded(address)
    assert what_to_do in str(error.value)
    assert str(error.value).startswith(address)
    assert "\n" not in str(error.value)


def test_the_next_call_deletes_what_a_killed_one_left_also_a_temporary_s_temporary(tmp_path: Path):
    path = tmp_path / "weights.pt"
    other = tmp_path / f".other-{16 * '0'}.pt"
    (tmp_path / f".weights-{16 * '1'}.pt").touch()
    (tmp_path / f"..weights-{16 * '2'}-{16 * '3'}.pt").touch()
    other.touch()
    with files.atomic_path(path) as mine, files.atomic_path(mine) as inner:
        inner.write_text("whole")
    assert sorted(tmp_path.iterdir()) == [other, path]
    assert path.read_text() == "whole"


def test_the_names_of_new_folders_are_flushed_where_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Else a loss of power takes a folder with all that was flushed in it."""
    flushed: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: flushed.append(str(Path(f"/proc/self/fd/{file}").readlink()))
    )
    files.write_text(tmp_path / "a" / "b" / "file", "text")
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(flushed)


def test_the_first_error_is_the_one_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that has turned read-only lets nobody delete the temporary, either."""

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="Read-only") as error:
        files.write_text(tmp_path / "file", "text")
    assert error.value.filename == str(tmp_path / "file")


def test_a_folder_loses_its_name_on_disk_before_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else a loss of power may give its name back to what is left of it by then."""
    folder = tmp_path / "2"
    folder.mkdir()
    (folder / "array").touch()
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(any(tmp_path.glob("*/array"))))
    files.remove(folder)
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []
