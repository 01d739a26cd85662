"""A small array_record file that would unpack to a large one is refused before it is."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter

from recipe.data.cifar import riegeli, tfds_folder
from recipe.system.errors import UserError

FORMS = ["group_size:1", "group_size:7", "group_size:3,transpose", "group_size:2,uncompressed"]


def write(path: Path, records: list[bytes], form: str = FORMS[0]) -> Path:
    writer = ArrayRecordWriter(str(path), form)
    for record in records:
        writer.write(record)
    writer.close()
    return path


@pytest.mark.parametrize("form", FORMS)
def test_sizes_are_found_wherever_the_headers_of_blocks_cut_a_file(form: str, tmp_path: Path):
    """The last chunk ends with the file, which only right steps from chunk to chunk can find."""
    draw = np.random.default_rng(0)
    for size in (1, 3_000, *range(65_400, 65_540, 4), 140_000):
        records = [draw.bytes(size + i) for i in range(3)]
        path = write(tmp_path / "records", records, form)
        riegeli.check(path)
        content = path.read_bytes()
        for cut in (1, 39, 1_000):
            path.write_bytes(content[:-cut])
            with pytest.raises(ValueError, match="truncated"):
                riegeli.check(path)


@pytest.mark.parametrize("form", FORMS[:3])
def test_a_bomb_is_refused(form: str, tmp_path: Path):
    path = write(tmp_path / "records", [bytes(20_000_000)] * 2, form)
    assert path.stat().st_size < 150_000
    with pytest.raises(UserError, match="says that it unpacks to") as refused:
        tfds_folder._read_records(path, "array_record")
    assert str(refused.value).isprintable()


def test_records_without_end_are_refused(tmp_path: Path):
    path = write(tmp_path / "records", [os.urandom(100)])
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, 64 + 24, (2**50 << 8) + ord("r"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="unpacks to"):
        riegeli.check(path)


def test_zeros_are_no_chunks(tmp_path: Path):
    """Or a large file of them would be gone through in steps of 40 bytes."""
    path = tmp_path / "records"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ValueError, match="it is no array_record file"):
        riegeli.check(path)
