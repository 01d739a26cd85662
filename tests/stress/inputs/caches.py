"""Readers of caches: whatever is in them, nothing fails, and what comes out is as it was made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jax._src.compilation_cache import compress_executable, decompress_executable

from flax_resnet.compilation_cache import _remove_damaged
from flax_resnet.cpu_kernels import build
from recipe.data.cache import cached
from recipe.data.dataset import Arrays
from recipe.system.errors import UserError
from tests.recipe.data.cifar.mini import MINI
from tests.stress.inputs.reader import Reader

_SOURCE = Path(__file__)  # a file that stays as it is


def _never_refused(read: Any) -> Any:
    """A reader that may not fail at all."""

    def read_it(folder: Path) -> Any:
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        try:
            return read(folder)
        except UserError as error:
            raise AssertionError(f"a cache is no reason to fail: {error}") from error

    return read_it


def _decoded(folder: Path) -> str:
    """Decoded pictures: what is damaged is made again, and then found."""
    arrays, made = MINI["cifar10"].arrays, []

    def read(_: Path) -> Arrays:
        made.append(True)
        return arrays

    first = cached(_SOURCE, read).digest
    made.clear()
    again = cached(_SOURCE, read).digest
    assert not made, "what was made again is not kept"
    return f"{first} {again}"


def _use_compiler(folder: Path) -> None:
    """A compiler whose library is a text."""
    compiler = folder.parent / "c++"
    if not compiler.exists():
        code = "code" * 50
        compiler.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exit\n'
            f'while [ "$1" != -o ]; do shift; done\nprintf {code} > "$2"\n'
        )
        compiler.chmod(0o755)
    os.environ["CXX"] = str(compiler)


def _library(folder: Path) -> bytes:
    """The native kernels."""
    _use_compiler(folder)
    return build.build().read_bytes()


def _programs(folder: Path) -> list[bytes]:
    """Compiled programs: those that stay are sound; here whatever is not as it was made."""
    _remove_damaged(folder / "cache")
    found = [decompress_executable(path.read_bytes()) for path in (folder / "cache").glob("*-cache")]
    return [program for program in found if program not in _PROGRAMS]


_PROGRAMS = [bytes(range(256)) * 20, b"program" * 500]


def _make_programs(folder: Path) -> None:
    (folder / "cache").mkdir()
    for number, program in enumerate(_PROGRAMS):
        (folder / "cache" / f"{number}-cache").write_bytes(compress_executable(program))


READERS = (  # in a folder that nobody else can write to, so that nobody puts pipes there
    Reader("cache of decoded pictures", _never_refused(_decoded), _never_refused(_decoded), nodes=False),
    Reader(
        "cache of native kernels", _never_refused(_library), _never_refused(_library), nodes=False, share=0.3
    ),
    Reader("cache of compiled programs", _make_programs, _programs, share=0.5),
)
