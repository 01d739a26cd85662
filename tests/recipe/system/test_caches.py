"""Only what nobody else can write to is a cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from recipe.system.caches import NoCache, cache_folder
from recipe.system.errors import UserError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_variable_that_holds_an_address_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "s3://b/cache")
    with pytest.raises(UserError, match="XDG_CACHE_HOME: s3://b/cache: "):
        cache_folder()


@pytest.mark.usefixtures("no_umask")
def test_it_is_below_the_home_folder_and_made_for_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    folder = cache_folder()
    assert folder == tmp_path / "me" / ".cache" / "flax_resnet"
    assert [place.stat().st_mode & 0o777 for place in (folder, folder.parent, folder.parent.parent)] == [
        0o700
    ] * 3
    assert cache_folder() == folder


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
def test_a_folder_that_others_can_write_is_none(home: Path, mode: int):
    folder = cache_folder()
    folder.chmod(mode)
    with pytest.raises(NoCache, match=f"others can write to {folder} \\(chmod go-w"):
        cache_folder()
    folder.chmod(0o755)
    assert cache_folder() == folder


def test_nor_is_one_that_others_can_put_another_in_the_place_of(home: Path):
    folder = cache_folder()
    home.chmod(0o777)
    with pytest.raises(NoCache, match=f"others can write to {home} "):
        cache_folder()
    home.chmod(0o1777)  # as /tmp
    assert cache_folder() == folder


def test_links_are_followed_before_it_is_judged(home: Path, tmp_path: Path):
    open_to_all = tmp_path / "open"
    (open_to_all / "flax_resnet").mkdir(parents=True)
    open_to_all.chmod(0o777)
    home.symlink_to(open_to_all)
    with pytest.raises(NoCache, match=f"others can write to {open_to_all} "):
        cache_folder()


def test_another_users_is_none(home: Path, monkeypatch: pytest.MonkeyPatch):
    folder = cache_folder()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(NoCache, match=f"{folder} belongs to another user"):
        cache_folder()


def test_where_nothing_can_be_made_there_is_none(home: Path):
    home.write_text("no folder")
    with pytest.raises(NoCache, match=f"can't write to {home}"):
        cache_folder()
