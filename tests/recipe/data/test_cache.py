"""The cache gives back what was stored, is never out of date, and never in the way."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from recipe.data import cache
from recipe.data.cache import cached
from recipe.data.dataset import Arrays


def rewrite(path: Path, text: str) -> None:
    """Change the text but not the time."""
    stat = path.stat()
    path.write_text(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


class Reader:
    """Reads a folder of files with one number each, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, source: Path) -> Arrays:
        self.calls += 1
        files = sorted(source.iterdir()) if source.is_dir() else [source]
        numbers = np.array([int(path.read_text()) for path in files])
        images = np.zeros((len(numbers), 32, 32, 3), np.uint8) + numbers[:, None, None, None].astype(np.uint8)
        labels = numbers.astype(np.int32)
        return Arrays(images, labels, images[::-1].copy(), labels[::-1].copy(), ("cat", "Füchse"))


def assert_equal(got: Arrays, expected: Arrays) -> None:
    assert got.class_names == expected.class_names
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        a, b = getattr(got, field), getattr(expected, field)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
        assert a.flags.c_contiguous
        assert a.flags.writeable


@pytest.fixture
def read() -> Reader:
    return Reader()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flax_resnet"


@pytest.fixture
def source(tmp_path: Path, folder: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for i in range(4):
        (source / f"{i}").write_text(str(10 * i))
    return source


def test_reads_once(source, read):
    first = cached(source, read)
    second = cached(source, read)
    assert read.calls == 1
    assert_equal(second, first)
    assert_equal(second, Reader()(source))


def test_another_dataset_is_no_entry_of_the_first(source, read):
    for name in ("cifar10", "cifar100"):
        assert_equal(cached(source, read, name=name), Reader()(source))
    assert read.calls == 2


def test_source_can_be_a_file(source, read):
    assert_equal(cached(source / "2", read), Reader()(source / "2"))
    assert_equal(cached(source / "2", read), Reader()(source / "2"))
    assert read.calls == 1


def test_sources_do_not_share_an_entry(source, read):
    for _ in range(2):
        for name in ("1", "2"):
            assert_equal(cached(source / name, read), Reader()(source / name))
    assert read.calls == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda source: rewrite(source / "3", "999"),
        lambda source: (source / "4").write_text("40"),
        lambda source: (source / "3").unlink(),
        lambda source: (source / "3").rename(source / "30"),
        lambda source: os.utime(source / "3", ns=(0, (source / "3").stat().st_mtime_ns + 1)),
    ],
    ids=["size", "new file", "missing file", "name", "time"],
)
def test_changed_source_is_read_again_and_replaces_its_entry(change, source, read, folder):
    cached(source, read)
    (entry,) = folder.iterdir()
    change(source)
    assert_equal(cached(source, read), Reader()(source))
    assert read.calls == 2
    assert list(folder.iterdir()) == [entry]


def test_change_while_reading(source, read, folder):
    def slow_read(path: Path) -> Arrays:
        arrays = read(path)
        (source / "0").write_text("999")
        return arrays

    cached(source, slow_read)
    assert_equal(cached(source, read), Reader()(source))


def test_other_format_is_read_again(source, read, monkeypatch):
    cached(source, read)
    monkeypatch.setattr(cache, "_FORMAT", cache._FORMAT + 1)
    cached(source, read)
    assert read.calls == 2


def test_damaged_entry_is_made_anew(source, read, folder, caplog):
    caplog.set_level(logging.INFO)
    expected = cached(source, read)
    (entry,) = folder.iterdir()
    sound = entry.read_bytes()
    # The zip file's headers are where the most can go wrong: at its beginning and its end.
    positions = [*range(0, 400, 7), *range(len(sound) - 700, len(sound), 7)]
    positions += np.random.default_rng(0).integers(0, len(sound), 50).tolist()
    flipped = [sound[:i] + bytes([sound[i] ^ 0xFF]) + sound[i + 1 :] for i in positions]
    for content in [b"", sound[:-1], sound[: len(sound) // 2], *flipped]:
        entry.write_bytes(content)
        assert_equal(cached(source, read), expected)
    calls = read.calls
    assert calls > len(flipped) / 2, "hardly any damage was noticed"
    assert_equal(cached(source, read), expected)
    assert read.calls == calls
    assert list(folder.iterdir()) == [entry]
    assert not caplog.records


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b"(4, 32, 32, 3)", b"(4, 22, 32, 3)"),  # one bit in what says the shape
        (b"(4, 32, 32, 3)", b"(4, 32, 32, 1)"),
        (b"'|u1'", b"'|i1'"),
        (b"'<i4'", b"'>i4'"),
        (b"'<i4'", b"'<u4'"),
        (b"'fortran_order': False", b"'fortran_order': True "),
        (b"(4,)", b"(2,)"),
    ],
)
def test_damage_that_leaves_a_readable_entry_is_noticed(written, damaged, source, read, folder):
    """Of a zip file's entries, checksums leave out what NumPy reads shapes and dtypes from at times."""
    expected = cached(source, read)
    (entry,) = folder.iterdir()
    sound = entry.read_bytes()
    for occurrence in range(sound.count(written)):
        position = -1
        for _ in range(occurrence + 1):
            position = sound.index(written, position + 1)
        entry.write_bytes(sound[:position] + damaged + sound[position + len(written) :])
        assert_equal(cached(source, read), expected)
        assert read.calls == 2 + occurrence
    assert read.calls > 1


def test_entry_that_cannot_be_written(source, read, folder, caplog):
    caplog.set_level(logging.INFO)
    folder.parent.write_text("a file where the folder should be")
    assert_equal(cached(source, read), Reader()(source))
    assert not caplog.records


def test_failed_write_leaves_nothing(source, read, folder, monkeypatch):
    def full(path: Path, **arrays: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_equal(cached(source, read), Reader()(source))
    assert list(folder.iterdir()) == []


def test_error_of_the_reader_stores_nothing(source, folder):
    with pytest.raises(ZeroDivisionError):
        cached(source, lambda path: 1 // 0)
    assert list(folder.iterdir()) == []


def test_a_folder_that_others_can_write_is_not_used(source, read, folder):
    cached(source, read)
    folder.chmod(0o777)
    (entry,) = folder.iterdir()
    before = entry.read_bytes()
    assert_equal(cached(source, read), Reader()(source))
    assert read.calls == 2
    assert entry.read_bytes() == before


def test_default_place(source, read, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cached(source, read)
    assert len(list((tmp_path / "home" / ".cache" / "flax_resnet").iterdir())) == 1
