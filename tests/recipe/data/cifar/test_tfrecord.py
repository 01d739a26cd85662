"""The TFRecord reader against TensorBoard's writer, and the checksum against published values."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.summary.writer.record_writer import RecordWriter

from recipe.data.cifar import tfrecord

RECORDS = st.lists(st.binary(max_size=70), max_size=12)


def write(path, records):
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("tfrecord") / "file"


@pytest.mark.parametrize(
    ("data", "crc"),  # RFC 3720, B.4, and the usual check value
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_of_published_vectors(data, crc):
    assert tfrecord.crc32c([data]).tolist() == [crc]


@given(RECORDS)
def test_crc32c_is_that_of_tensorboard(records):
    crc = tfrecord.crc32c(records)
    assert crc.dtype == np.uint32
    assert crc.tolist() == [pywrap_tensorflow.crc32c(record) for record in records]


@given(RECORDS)
def test_reads_what_was_written(path, records):
    write(path, records)
    assert tfrecord.read(path) == records


@given(RECORDS.filter(bool), st.data())
def test_any_flipped_bit_is_found(path, records, data):
    write(path, records)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated|checksum"):
        tfrecord.read(path)


@given(RECORDS.filter(bool), st.data())
def test_any_cut_is_found_except_between_records(path, records, data):
    write(path, records)
    content = path.read_bytes()
    boundaries = np.cumsum([0] + [len(record) + 16 for record in records]).tolist()
    end = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:end])
    if end in boundaries:
        assert tfrecord.read(path) == records[: boundaries.index(end)]
    else:
        with pytest.raises(ValueError, match="truncated"):
            tfrecord.read(path)


def test_a_record_longer_than_any_example_is_refused_before_its_checksum_is_computed(path):
    path.write_bytes(struct.pack("<QI", 50_000_000, 0) + bytes(50_000_000 + 4))
    with pytest.raises(ValueError, match="a record has 50,000,000 bytes"):
        tfrecord.read(path)
