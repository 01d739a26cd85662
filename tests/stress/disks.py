"""Disks that fill, turn read-only, break or vanish while a run writes to them.

Such a run ends with one line that names the file, and status 2; once the disk is there again, and has room,
the same command ends as if nothing had been.
"""

from __future__ import annotations

import abc
import errno
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.stress import warm
from tests.stress.faults import Faults, counted
from tests.stress.runs import Bench, measured
from tests.stress.table import Row
from tests.stress.warm import Child

FAILURES = {
    errno.ENOSPC: "a disk that is full from some operation on",
    errno.EROFS: "a disk that is read-only from some operation on",
    errno.EIO: "a disk that answers nothing but errors from some operation on",
}
POINTS = 20  # of each kind
OUTCOME = (
    "one line that names the file, status 2; then the same command ended as the undisturbed run, bit for bit"
)


def run(seconds: float, seed: int, engine: str) -> list[Row]:
    """See tests.stress.parts."""
    return warm.call(__name__, "campaign", seconds=seconds, seed=seed, engine=engine)


def campaign(seconds: float, seed: int, engine: str, folder: Path) -> list[Row]:
    """All kinds in turn, until each has been tried at 20 points, or the time is over."""
    bench, rng, on = measured(folder, engine), random.Random(seed), warm.lasts(seconds)
    kinds: list[_Kind] = [_Failing(bench, number) for number in FAILURES]
    kinds += [_Moved(bench), _Deleted(bench)]
    if may_mount(folder):
        kinds += [_Full(bench), _Unmounted(bench)]
    try:
        _attempt_all(kinds, rng, on)
    finally:
        unmount_all(folder)
    return [Row(f"{kind.what}, {engine}", kind.tried, kind.outcome) for kind in kinds]


def _attempt_all(kinds: list[_Kind], rng: random.Random, on: Callable[[], bool]) -> None:
    points = [(i + 0.5) / POINTS for i in range(POINTS)]
    rng.shuffle(points)
    for point in points:
        for kind in kinds:
            if on():
                try:
                    kind.tried += kind.attempt(point)
                except AssertionError as error:
                    raise AssertionError(f"{error}\nafter: {kind.what}, at {point} of the run") from error


def may_mount(folder: Path) -> bool:
    """Whether this process may mount file systems, as the owner of a container may."""
    try:
        with mounted(folder / "may", "16k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def mounted(place: Path, size: str) -> Iterator[None]:
    """A disk of a size, in memory."""
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def mount(*arguments: str) -> None:
    """`mount`, or a `CalledProcessError`."""
    subprocess.run(["mount", *arguments], check=True, stderr=subprocess.DEVNULL)


def require_one_line(child: Child, place: Path) -> None:
    """Check that a run has ended with status 2 and one line of error that names a path below a place."""
    status, said = child.wait(), child.said()
    assert status == 2, f"status {status}: {said[-4000:]}"
    lines = [line for line in said.splitlines() if line]
    assert lines[-1].startswith("error: "), said[-4000:]
    assert str(place) in lines[-1], f"the error names no file: {lines[-1]}"
    assert sum(line.startswith("error: ") for line in lines) == 1, said[-4000:]
    assert "Traceback" not in said, said[-4000:]


class _Kind(abc.ABC):
    """A kind of fault."""

    what = ""
    outcome = OUTCOME

    def __init__(self, bench: Bench):
        self.bench = bench
        self.tried = 0

    @abc.abstractmethod
    def attempt(self, point: float) -> int:
        """Do it to a run after some part of it, from 0 to 1; how often it took effect: 0 or 1."""


class _Failing(_Kind):
    """Operations that fail, in the library of faults."""

    def __init__(self, bench: Bench, number: int):
        super().__init__(bench)
        self.what, self._number = FAILURES[number], number

    def attempt(self, point: float) -> int:
        workdir = self.bench.new_workdir()
        at, count = 1 + int(point * self.bench.operations), workdir.with_suffix(".count")
        child = self.bench.start(workdir, Faults(workdir, at=at, do=self._number, count=count))
        child.wait()
        if counted(count) < at:  # orbax takes some more or less from one run to the next
            self.bench.wait(child, 0)
            self.bench.compare(workdir)
            return 0
        require_one_line(child, workdir)
        self.bench.finish(workdir)
        return 1


class _Full(_Kind):
    """A real disk that is too small, and is enlarged then."""

    what = "a disk (tmpfs) that is too small"

    def __init__(self, bench: Bench):
        super().__init__(bench)
        with mounted(bench.folder / "measure", "64m"):
            workdir = bench.folder / "measure" / "run"
            bench.wait(bench.start(workdir), 0)
            self._need = shutil.disk_usage(workdir).used

    def attempt(self, point: float) -> int:
        place = self.bench.new_workdir()
        size = 4096 * max(1, int(point * self._need / 4096))
        with mounted(place, str(size)):
            workdir = place / "run"
            require_one_line(self.bench.start(workdir), workdir)
            mount("-o", "remount,size=64m", str(place))
            self.bench.finish(workdir)
        return 1


class _InTime(_Kind):
    """Something that is done to the workdir while a run goes on in it."""

    outcome = OUTCOME.replace("then", "once it was back,")

    def attempt(self, point: float) -> int:
        workdir = self.prepare()
        child = self.bench.start(workdir)
        time.sleep(point * self.bench.seconds)
        while child.alive() and not (workdir / "log.txt").exists():  # which comes once the run has begun
            time.sleep(0.01)
        if not child.alive():
            self.bench.wait(child, 0)
            return 0
        self.take(workdir)
        if child.wait() == 0:  # it was done with its work
            self.give_back(workdir)
            return 0
        require_one_line(child, workdir)
        self.give_back(workdir)
        self.bench.finish(workdir)
        return 1

    def prepare(self) -> Path:
        return self.bench.new_workdir()

    @abc.abstractmethod
    def take(self, workdir: Path) -> None:
        """Make the workdir vanish."""

    @abc.abstractmethod
    def give_back(self, workdir: Path) -> None:
        """Bring it back, the run being over."""


class _Moved(_InTime):
    """A workdir that is renamed."""

    what = "a workdir that is moved away"

    def take(self, workdir: Path) -> None:
        workdir.rename(workdir.with_suffix(".moved"))

    def give_back(self, workdir: Path) -> None:
        remove_fragment(workdir)
        workdir.with_suffix(".moved").rename(workdir)


class _Deleted(_InTime):
    """A workdir that is deleted; the same command begins anew."""

    what = "a workdir that is deleted"
    outcome = OUTCOME.replace("then", "then, from the beginning,")

    def take(self, workdir: Path) -> None:
        while workdir.exists():  # the run may just write into it
            shutil.rmtree(workdir, ignore_errors=True)

    def give_back(self, workdir: Path) -> None:
        pass


class _Unmounted(_InTime):
    """A real disk that is unmounted: what is written by name then goes to the disk below."""

    what = "a disk that is unmounted"

    def prepare(self) -> Path:
        place = self.bench.new_workdir()
        for name in ("disk", "seen"):
            (place / name).mkdir(parents=True)
        mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place / "disk"))
        mount("--bind", str(place / "disk"), str(place / "seen"))
        return place / "seen" / "run"

    def take(self, workdir: Path) -> None:
        subprocess.run(["umount", "-l", str(workdir.parent)], check=True)

    def give_back(self, workdir: Path) -> None:
        remove_fragment(workdir)
        mount("--bind", str(workdir.parent.parent / "disk"), str(workdir.parent))


def remove_fragment(workdir: Path) -> None:
    """Delete what was being written when the path was taken away, and was made anew there."""
    shutil.rmtree(workdir, ignore_errors=True)


def unmount_all(folder: Path) -> None:
    """Unmount what is left below a folder."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()[::-1]:
        if line.split()[1].startswith(f"{folder}/"):
            with suppress(OSError):
                subprocess.run(["umount", "-l", line.split()[1]], check=False)
