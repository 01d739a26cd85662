"""A reader of TFRecord files, without TensorFlow.

Each record is: its length (uint64), the masked CRC-32C of these 8 bytes (uint32), the data, the masked
CRC-32C of the data (uint32); all little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

LONGEST = 1 << 16  # bytes of a record; an example with a picture of 32×32 pixels has 4,000 at most


def read(path: Path) -> list[bytes]:
    """Return the records of the file.

    Raises:
      ValueError: the file is truncated, a checksum does not match, or a record is longer than `LONGEST`.
    """
    data = path.read_bytes()
    lengths, records, stored = [], [], []
    start = 0
    while start < len(data):
        if start + 12 > len(data):
            raise ValueError("truncated")
        length, length_crc = struct.unpack_from("<QI", data, start)
        end = start + 12 + length
        if end + 4 > len(data):
            raise ValueError("truncated, or a record's length is damaged")
        if length > LONGEST:  # checksums of long records would take hours
            raise ValueError(f"a record has {length:,} bytes, more than any example with a small picture")
        lengths.append(data[start : start + 8])
        records.append(data[start + 12 : end])
        stored.append((length_crc, *struct.unpack_from("<I", data, end)))
        start = end + 4
    computed = np.stack([_mask(crc32c(lengths)), _mask(crc32c(records))], axis=1)
    if not np.array_equal(np.array(stored, np.uint32).reshape(-1, 2), computed):
        raise ValueError("a checksum does not match")
    return records


def crc32c(records: list[bytes]) -> np.ndarray:
    """Return the CRC-32C (Castagnoli) of each record, uint32 (len(records),).

    The checksum is a loop over bytes, too slow in Python for one record after another. Here each step
    adds one byte of every record that is long enough; sorted by length, these come first.
    """
    data = np.frombuffer(b"".join(records), np.uint8)
    lengths = np.array([len(record) for record in records], np.int64)
    longest_first = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[longest_first]
    crc = np.full(len(records), 0xFFFFFFFF, np.uint32)
    for i in range(max(lengths, default=0)):
        n = np.count_nonzero(lengths > i)
        crc[:n] = _TABLE[(crc[:n] ^ data[starts[:n] + i]) & 0xFF] ^ (crc[:n] >> 8)
    result = np.empty_like(crc)
    result[longest_first] = ~crc
    return result


def _make_table() -> np.ndarray:
    """The effect on the CRC of each possible byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


def _mask(crc: np.ndarray) -> np.ndarray:
    """The CRC as TFRecord files store it: rotated, plus a constant (modulo 2³²)."""
    return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


_TABLE = _make_table()
