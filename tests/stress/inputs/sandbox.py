"""Reads damaged inputs in forked processes, so that whatever happens is known by its input.

A fork of a process that has imported everything costs milliseconds. The process must not start threads: a
fork has none of them, but all of their locks.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import itertools
import json
import math
import os
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, TextIO

from recipe.system.errors import UserError
from recipe.system.terminal import message
from tests.stress.inputs import nodes
from tests.stress.inputs.forms import mutate
from tests.stress.inputs.reader import Reader

SECONDS = 10  # of a processor, that an input may take
HANGS = 120.0  # seconds without a word from a process that may wait for others
BATCH = 50  # inputs for a process
NODES = 0.05  # of the inputs have something else in a file's place
_ROOM = 4 << 30  # bytes of address space: a stop for the machine's sake, behind the reader's own limit
M_ARENA_MAX = -8  # glibc's mallopt


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one input."""

    number: int
    file: str  # that was damaged
    damage: str
    result: str  # "same" | "other" | "refused" | "broken"
    line: str  # the error's


def run(
    reader: Reader, seed: int, numbers: Iterable[int], keep: Path, seconds: float = math.inf
) -> list[Outcome]:
    """Read damaged inputs, each by its number, from which all that is random in it follows.

    Args:
      reader: whose inputs.
      seed: of the campaign.
      numbers: of the inputs.
      keep: a folder, in which a broken input's file is left.
      seconds: after these, no more are begun.

    Raises:
      AssertionError: for the first input that does what none may; says how to repeat it.
    """
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="inputs-") as folder:
        samples = [Path(folder, name) for name in ("sample", "other")]
        for sample in samples:
            _in_child(lambda sample=sample: _make(reader, sample))
        outcomes: list[Outcome] = []
        for batch in _batches(numbers):
            if time.monotonic() > ends:
                break
            outcomes += _batch(reader, samples, seed, batch, keep)
    return outcomes


def _batches(numbers: Iterable[int]) -> Iterator[Sequence[int]]:
    """`itertools.batched` for Python 3.11."""
    rest = iter(numbers)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def _make(reader: Reader, sample: Path) -> None:
    sample.mkdir()
    reader.prepare()
    reader.make(sample)


def _in_child(work: Callable[[], Any]) -> None:
    """Do something in a process of its own."""
    for _ in _words_of_child(lambda say: work()):
        pass


def _batch(
    reader: Reader, samples: list[Path], seed: int, numbers: Sequence[int], keep: Path
) -> list[Outcome]:
    """Read some inputs in one process."""
    outcomes: list[Outcome] = []
    current = None
    try:
        for word in _words_of_child(lambda say: _read_all(reader, samples, seed, numbers, keep, say)):
            current = Outcome(**word)
            if current.result == "broken":
                raise AssertionError(current.line)
            if current.result != "begun":
                outcomes.append(current)
    except AssertionError as error:
        if current is None:
            raise
        raise AssertionError(
            f"{reader.name}, {current.file} ({current.damage}): {error}. The damaged file is in {keep}; "
            f"repeat it by python -m tests.stress.inputs "
            f"--reader '{reader.name}' --seed {seed} --number {current.number}"
        ) from error
    return outcomes


def _words_of_child(work: Callable[[Callable[[dict[str, Any]], None]], None]) -> Iterator[dict[str, Any]]:
    """Fork, do something there, and yield what it says.

    Raises:
      AssertionError: if the process dies, or is silent for too long; it is killed.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(work, os.fdopen(writing, "w", buffering=1))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=0) as words:
            rest = b""
            while True:
                if not select.select([words], [], [], HANGS)[0]:
                    raise AssertionError(f"nothing was heard for {HANGS:.0f} s")
                part = words.read(1 << 16)
                if not part:
                    break
                *whole, rest = (rest + part).split(b"\n")
                yield from map(json.loads, whole)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if status:
            raise AssertionError(_death(status))
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _death(status: int) -> str:
    if status == -signal.SIGXCPU:
        return f"it took more than {SECONDS} s"
    return f"the process ended with {signal.Signals(-status).name if status < 0 else status}"


def _child(work: Callable[[Callable[[dict[str, Any]], None]], None], words: TextIO) -> None:
    """Work in a forked process, and end it."""
    status = 1
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)  # each thread's own arena would count as 64 MB
        work(lambda word: print(json.dumps(word), file=words, flush=True))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        words.flush()
        os._exit(status)  # no clean-up: threads may still work


def _read_all(
    reader: Reader,
    samples: list[Path],
    seed: int,
    numbers: Sequence[int],
    keep: Path,
    say: Callable[..., None],
) -> None:
    """Damage and read one input after another."""
    reader.prepare()
    folder = samples[0].with_name("read")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(samples[0], folder, symlinks=True)
    with _printed() as printed:
        sound = reader.read(folder)
        assert reader.read(folder) == sound, "reading twice gives other values"
        for number in numbers:
            draw = Random(f"{seed} {reader.name} {number}")
            files = sorted(path for path in samples[0].rglob(reader.files) if path.is_file())
            (file,) = draw.choices(files, [path.stat().st_size ** 0.5 + 10 for path in files])
            name = file.relative_to(samples[0])
            _restore(samples[0], folder)
            damage = _damage(reader, folder / name, samples[1] / name, draw)
            about = {"number": number, "file": str(name), "damage": damage}
            if damage not in nodes.KINDS:
                shutil.copyfile(folder / name, keep / name.name)
            say({**about, "result": "begun", "line": ""})
            result, line = _outcome(reader, folder, sound, printed)
            say({**about, "result": result, "line": line})
            if result == "broken":
                return
            (keep / name.name).unlink(missing_ok=True)


def _damage(reader: Reader, path: Path, other: Path, draw: Random) -> str:
    """Damage a file, given another sound one of its kind; what was done."""
    if reader.nodes and draw.random() < NODES:
        return nodes.replace(path, draw)
    content, damage = mutate(path.read_bytes(), draw, other.read_bytes() if other.is_file() else b"")
    path.write_bytes(content)
    return damage


def _restore(sample: Path, folder: Path) -> None:
    """Let a folder hold what a sample holds, and nothing else."""
    ours = {path.relative_to(sample) for path in sample.rglob("*")}
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder)
        if name not in ours or _kind(path) != _kind(sample / name):
            shutil.rmtree(path) if _kind(path) == stat.S_IFDIR else path.unlink()
    for name in sorted(ours):
        path, sound = folder / name, sample / name
        if sound.is_dir():
            path.mkdir(exist_ok=True)
        elif not path.exists() or not _same(path, sound):
            shutil.copy2(sound, path)


def _kind(path: Path) -> int:
    return stat.S_IFMT(path.lstat().st_mode)


def _same(a: Path, b: Path) -> bool:
    return a.stat().st_size == b.stat().st_size and a.read_bytes() == b.read_bytes()


def _outcome(reader: Reader, folder: Path, sound: Any, printed: TextIO) -> tuple[str, str]:
    """Read one input; ("broken", why) for what may not happen."""
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begins a new peak
    result, line = "same", ""
    with _limits():
        try:
            value = reader.read(folder)
            result = "same" if value == sound else "other"
        except UserError as error:
            result, line = "refused", message(str(error))
        except OSError as error:
            if not error.filename:  # else `recipe.system.program` makes a line of it
                return "broken", traceback.format_exc()
            result, line = "refused", message(str(error))
        except BaseException:
            return "broken", traceback.format_exc()
    if (grown := _resident("VmHWM") - before) > reader.megabytes << 20:
        return "broken", f"it took {grown >> 20:,} MB, more than {reader.megabytes}"
    printed.seek(0)
    if "Traceback" in (text := printed.read()):
        return "broken", f"it printed {text}"
    printed.seek(0)
    printed.truncate()
    if result == "refused" and (why := _not_a_line(line)):
        return "broken", f"its error {why}: {line!r}"
    if result == "other" and reader.checked:
        return "broken", "other values were read, and nothing was said"
    return result, line


def _not_a_line(line: str) -> str:
    if not line.strip() or "\n" in line:
        return "is not one line"
    memory = next(
        (word for word in ("MemoryError", "bad_alloc", "can't allocate", "out of memory") if word in line), ""
    )
    return f"is one of memory ({memory})" if memory else ""


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Limit this process's further time, and its memory."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + SECONDS + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (_resident("VmSize") + _ROOM, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _resident(field: str) -> int:
    """Bytes of this process's memory, by a name in /proc/self/status."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise ValueError(field)


@contextlib.contextmanager
def _printed() -> Iterator[TextIO]:
    """What is printed meanwhile, by native code as well."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield file
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
