"""What an array_record file unpacks to, by the sizes in it, before anything is unpacked.

Such a file has the form of Riegeli records: chunks, cut by the headers of blocks of 64 KiB. A chunk's header
says how many bytes of data follow, and how many its records have unpacked.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

BLOCK, BLOCK_HEADER = 1 << 16, 24  # bytes
# hash of the header, bytes of data, their hash, type and number of records, bytes of all records unpacked
CHUNK_HEADER = struct.Struct("<5Q")
CHUNKS = b"smprt"  # signature, metadata, padding, simple and transposed records
MULTIPLE, SMALL = 4, 1 << 20  # of the file's size, and bytes: what all records may have


def check(path: Path) -> None:
    """Raise a `ValueError`, with the reason, if a file's records would have far more bytes than it has.

    Pictures don't: they are packed already.
    """
    size, position, records, unpacked = path.stat().st_size, 0, 0, 0
    with path.open("rb") as file:
        while position < size:
            _, data, _, kind, decoded = CHUNK_HEADER.unpack(_read(file, position, CHUNK_HEADER.size))
            if kind & 0xFF not in CHUNKS:
                raise ValueError("it is no array_record file, or a chunk's header is damaged")
            records += kind >> 8
            unpacked += decoded
            if max(records, unpacked) > MULTIPLE * size + SMALL:
                raise ValueError(f"it has {size:,} bytes, and says that it unpacks to {unpacked:,} at least")
            # a chunk is no shorter than its number of records
            position = max(_behind(position, CHUNK_HEADER.size + data), position + (kind >> 8))
    if position != size:
        raise ValueError("it is truncated")


def _read(file: IO[bytes], position: int, count: int) -> bytes:
    """So many bytes from a position, without the headers of blocks."""
    content = b""
    while len(content) < count:
        if position % BLOCK == 0:
            position += BLOCK_HEADER
        file.seek(position)
        part = file.read(min(count - len(content), BLOCK - position % BLOCK))
        if not part:
            raise ValueError("it is truncated")
        content += part
        position += len(part)
    return content


def _behind(position: int, count: int) -> int:
    """The position behind so many bytes, without the headers of blocks."""
    capacity = BLOCK - BLOCK_HEADER
    content = position // BLOCK * capacity + max(position % BLOCK - BLOCK_HEADER, 0) + count
    blocks, rest = divmod(content, capacity)
    return blocks * BLOCK + (BLOCK_HEADER + rest if rest else 0)
