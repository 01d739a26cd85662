"""Ways to damage the bytes of a file without knowing what they mean."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

EXTREMES = (0, 1, -1, 2**7 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1)


def flip_bit(content: bytes, draw: Random) -> bytes:
    """One bit is another."""
    changed = bytearray(content or b"\0")
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flip_bits(content: bytes, draw: Random) -> bytes:
    """A few bits are others."""
    for _ in range(draw.randrange(2, 9)):
        content = flip_bit(content, draw)
    return content


def change_byte(content: bytes, draw: Random) -> bytes:
    """One byte is another."""
    at = draw.randrange(len(content) or 1)
    return content[:at] + bytes([draw.choice([0, 0xFF, draw.randrange(256)])]) + content[at + 1 :]


def delete(content: bytes, draw: Random) -> bytes:
    """A range is gone."""
    start, end = _range(content, draw)
    return content[:start] + content[end:]


def duplicate(content: bytes, draw: Random) -> bytes:
    """A range is there twice."""
    start, end = _range(content, draw)
    return content[:end] + content[start:]


def zero(content: bytes, draw: Random) -> bytes:
    """A range is zeros."""
    start, end = _range(content, draw)
    return content[:start] + bytes(end - start) + content[end:]


def truncate(content: bytes, draw: Random) -> bytes:
    """The end is gone, perhaps all."""
    return content[: draw.randrange(len(content) or 1)]


def append(content: bytes, draw: Random) -> bytes:
    """There is more behind the end."""
    return content + draw.randbytes(draw.choice([1, 8, 100, 5_000]))


def change_number(content: bytes, draw: Random) -> bytes:
    """A number of 1 to 8 bytes, such as a size in a header, is an extreme one."""
    form = draw.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
    size = struct.calcsize(form)
    if len(content) < size:
        return flip_bit(content, draw)
    last = len(content) - size
    at = draw.randint(0, min(last, draw.choice([64, 512, last])))  # headers come first
    number = draw.choice(EXTREMES) % 2 ** (8 * size)
    return content[:at] + struct.pack(form, number) + content[at + size :]


def splice(content: bytes, other: bytes, draw: Random) -> bytes:
    """The beginning of one sound file, and the end of another."""
    at = draw.randrange(len(content) or 1)
    return content[:at] + other[draw.choice([at, draw.randrange(len(other) or 1)]) :]


DAMAGES: tuple[Callable[[bytes, Random], bytes], ...] = (
    flip_bit, flip_bits, change_byte, delete, duplicate, zero, truncate, append, change_number,
)  # fmt: skip


def _range(content: bytes, draw: Random) -> tuple[int, int]:
    """The start and end of a range, more often a short one."""
    start = draw.randrange(len(content) or 1)
    longest = draw.choice([1, 8, 100, len(content)])
    return start, min(len(content), start + draw.randint(1, max(1, longest)))
