"""Files that hold other files or records: taken apart, damaged inside, and put together with right checksums.

Damage that a checksum finds shows little of the code behind it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from recipe.data.cifar import tfrecord
from tests.stress.inputs import damage, json_damage

Members = list[tuple[str, bytes]]


class Form(NamedTuple):
    """How a kind of file is taken apart."""

    name: str
    take_apart: Callable[[bytes], Members]  # raises for another kind
    put_together: Callable[[Members], bytes]


def mutate(content: bytes, draw: Random, other: bytes = b"") -> tuple[bytes, str]:
    """Damage a file's bytes, or what is in it.

    Args:
      content: of a sound file.
      draw: decides.
      other: content of another sound file of the kind.

    Returns:
      the damaged bytes, and in a few words what was done.
    """
    if draw.random() < 0.6:
        for form in FORMS:
            with contextlib.suppress(Exception):  # what raises is of another kind
                if members := form.take_apart(content):
                    changed, what = _change_members(members, draw)
                    return form.put_together(changed), f"{form.name}: {what}"
        if json_damage.is_json(content):
            return json_damage.damage(content, draw), "JSON"
    if other and draw.random() < 0.1:
        return damage.splice(content, other, draw), "splice"
    chosen = draw.choice(damage.DAMAGES)
    return chosen(content, draw), chosen.__name__.replace("_", " ")


def _change_members(members: Members, draw: Random) -> tuple[Members, str]:
    """Rename, duplicate, drop or exchange members, or mutate one."""
    members = list(members)
    at = draw.randrange(len(members))
    name, content = members[at]
    match draw.randrange(12):
        case 0:
            others = [one for one, _ in members]
            members[at] = draw.choice([name + "x", "../" + name, "", json_damage.ESCAPE, *others]), content
            return members, "renamed"
        case 1:
            members.insert(draw.randrange(len(members) + 1), members[at])
            return members, "doubled"
        case 2:
            del members[at]
            return members, "dropped"
        case 3:
            second = draw.randrange(len(members))
            members[at], members[second] = (name, members[second][1]), (members[second][0], content)
            return members, "exchanged"
    changed, what = mutate(content, draw)
    members[at] = name, changed
    return members, what


def _unzip(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


def _zip(members: Members) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "w") as archive:
        for name, content in members:  # a name twice is what it warns of
            archive.writestr(name, content)
    return file.getvalue()


def _untar(content: bytes) -> Members:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar]
        return [(name, file.read()) for name, file in files if file is not None]


def _tar(members: Members) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _ungzip(content: bytes) -> Members:
    return [("", gzip.decompress(content))]


def _gzip(members: Members) -> bytes:
    return b"".join(gzip.compress(content, 1) for _, content in members)


def _open_safetensors(content: bytes) -> Members:
    (length,) = struct.unpack_from("<Q", content)
    header = content[8 : 8 + length]
    json.loads(header)
    return [("header", header), ("data", content[8 + length :])]


def _close_safetensors(members: Members) -> bytes:
    first = members[0][1] if members else b""
    return struct.pack("<Q", len(first)) + first + b"".join(content for _, content in members[1:])


_PNG = b"\x89PNG\r\n\x1a\n"


def _open_png(content: bytes) -> Members:
    if not content.startswith(_PNG):
        raise ValueError("no PNG")
    chunks, at = [], len(_PNG)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8].decode("latin1"), content[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _close_png(members: Members) -> bytes:
    chunks = [(name.encode("latin1", "replace")[:4].ljust(4), content) for name, content in members]
    return _PNG + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def _open_array_record(content: bytes) -> Members:
    if len(content) % 65_536 or content[64:65] == b"":
        raise ValueError("no array_record")
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        return [("", record) for record in ArrayRecordReader(file.name).read_all()]


def _close_array_record(members: Members) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        writer = ArrayRecordWriter(file.name, "group_size:1")
        for _, record in members:
            writer.write(record)
        writer.close()
        return Path(file.name).read_bytes()


def _open_tfrecord(content: bytes) -> Members:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        return [("", record) for record in tfrecord.read(Path(file.name))]


def _close_tfrecord(members: Members) -> bytes:
    parts = []
    for _, record in members:
        length = struct.pack("<Q", len(record))
        crcs = [
            struct.pack("<I", int(tfrecord._mask(tfrecord.crc32c([part]))[0])) for part in (length, record)
        ]
        parts.append(length + crcs[0] + record + crcs[1])
    return b"".join(parts)


def _open_lines(content: bytes) -> Members:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2 or not all(map(json_damage.is_json, lines)):
        raise ValueError("no lines of JSON")
    return [("", line) for line in lines]


def _close_lines(members: Members) -> bytes:
    return b"".join(content.rstrip(b"\n") + b"\n" for _, content in members)


FORMS = (
    Form("zip", _unzip, _zip),
    Form("gzip", _ungzip, _gzip),
    Form("tar", _untar, _tar),
    Form("png", _open_png, _close_png),
    Form("safetensors", _open_safetensors, _close_safetensors),
    Form("array_record", _open_array_record, _close_array_record),
    Form("tfrecord", _open_tfrecord, _close_tfrecord),
    Form("lines", _open_lines, _close_lines),
)
