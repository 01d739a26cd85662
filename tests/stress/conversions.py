"""`parity convert`, killed at its file operations: the source stays, the destination is whole or absent."""

from __future__ import annotations

import hashlib
import importlib
import json
import random
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

from tests.stress import warm
from tests.stress.faults import Faults, counted
from tests.stress.runs import Bench
from tests.stress.table import Row
from tests.stress.warm import Child

MODULES = {"jax": "flax_resnet.checkpoint", "torch": "torch_ref.checkpoint"}
SUFFIX = {"jax": "", "torch": ".pt"}


def run(seconds: float, seed: int) -> list[Row]:
    """See tests.stress.parts."""
    return warm.call(__name__, "campaign", seconds=seconds, seed=seed)


class Case(NamedTuple):
    """A conversion, and what is there before it."""

    to: str
    force: bool
    source: Path
    old: Path  # what --force replaces

    def __str__(self) -> str:
        source = "torch" if self.to == "jax" else "jax"
        return f"parity convert, {source} → {self.to}{', --force' if self.force else ''}"


def campaign(seconds: float, seed: int, folder: Path) -> list[Row]:
    """All operations of all cases, in a random order, until the time is over."""
    conversions, rng, on = _Conversions(folder), random.Random(seed), warm.lasts(seconds)
    points = [
        (case, number, moment)
        for case, count in conversions.operations.items()
        for number in range(1, count + 1)
        for moment in ("before", "within")
    ]
    rng.shuffle(points)
    tried: dict[Case, list[int]] = {case: [] for case in conversions.operations}
    for case, number, moment in points:
        if not on():
            break
        if conversions.attempt(case, number, moment):
            tried[case].append(number)
    return [
        Row(
            f"{case}: SIGKILL at a file operation, before or within it",
            len(tried[case]),
            f"at {len(set(tried[case]))} of {count} operations; the destination was as before or whole, "
            "the source untouched; the same command again left the whole one and nothing else",
        )
        for case, count in conversions.operations.items()
    ]


class _Conversions:
    """The four cases: two checkpoints of a run of each engine, and what they become."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._number = 0
        self.operations: dict[Case, int] = {}
        self._new: dict[Case, dict[str, str]] = {}
        self._old: dict[Case, dict[str, str]] = {}
        for engine, other in (("torch", "jax"), ("jax", "torch")):
            workdir = folder / f"run-{engine}"
            bench = Bench(folder, engine)
            bench.wait(bench.start(workdir), 0)
            new, old = (workdir / "checkpoints/latest" / f"{step}{SUFFIX[engine]}" for step in (4, 3))
            converted = folder / f"old-{other}{SUFFIX[other]}"
            assert self._convert(old, converted) == 0
            for force in (False, True):
                case = Case(other, force, new, converted)
                place = self._prepare(case)
                count = folder / "count"
                destination = self._destination(place, case)
                status = self._convert(place / new.name, destination, case, Faults(place, count=count))
                assert status == 0, self._said()
                self.operations[case] = counted(count)
                self._new[case] = self._arrays(destination, case.to)
                self._old[case] = self._arrays(converted, case.to)
                assert self._new[case] != self._old[case]

    def attempt(self, case: Case, number: int, moment: str) -> bool:
        """Kill one, judge what is there, and repeat it; whether it was killed."""
        place = self._prepare(case)
        source, destination = place / case.source.name, self._destination(place, case)
        before = digest(source)
        status = self._convert(source, destination, case, Faults(place, number, moment))
        how = f"{case}, killed {moment} operation {number}"
        assert status in (0, -signal.SIGKILL), f"status {status}, {how}: {self._said()}"
        assert digest(source) == before, f"the source is not what it was, {how}"
        there = self._arrays(destination, case.to) if destination.exists() else None
        allowed = [self._new[case], self._old[case] if case.force else None]
        assert there in allowed, f"the destination is neither as before nor whole, {how}"
        repeated = self._convert(source, destination, case)
        done = there is not None and not case.force  # then it is refused to replace it
        assert repeated == (2 if done else 0), f"status {repeated} when repeated, {how}: {self._said()}"
        assert self._arrays(destination, case.to) == self._new[case], f"not whole when repeated, {how}"
        names = {path.name for path in place.iterdir()}
        left = names - {source.name, destination.name}
        # a folder that was there as a whole is refused before anything is looked at
        assert not left or done, f"left behind, {how}: {left}"
        assert digest(source) == before, f"the source is not what it was when repeated, {how}"
        shutil.rmtree(place)
        return status != 0

    def _prepare(self, case: Case) -> Path:
        self._number += 1
        place = self._folder / f"convert-{self._number}"
        place.mkdir()
        copy(case.source, place / case.source.name)
        if case.force:
            copy(case.old, self._destination(place, case))
        return place

    def _destination(self, place: Path, case: Case) -> Path:
        return place / f"converted{SUFFIX[case.to]}"

    def _convert(
        self, source: Path, destination: Path, case: Case | None = None, faults: Faults | None = None
    ) -> int:
        force = ["--force"] if case and case.force else []

        def program() -> int:
            from parity.__main__ import main

            return main(["convert", str(source), str(destination), "--no-check", *force])

        return Child(program, self._folder / "convert.output", faults).wait()

    def _said(self) -> str:
        return (self._folder / "convert.output").read_text(encoding="utf-8")[-4000:]

    def _arrays(self, path: Path, form: str) -> dict[str, str]:
        """The digests of a checkpoint's arrays, and its record; damage is an `AssertionError`."""
        found = self._folder / "arrays.json"

        def read() -> int:
            module: Any = importlib.import_module(MODULES[form])
            record, tree = module.read(path)
            content = {"record": json.dumps(record, sort_keys=True), **module._digests(tree)}
            found.write_text(json.dumps(content), encoding="utf-8")
            return 0

        child = Child(read, self._folder / "read.output")
        assert child.wait() == 0, f"{path} can't be read: {child.said()[-4000:]}"
        digests: dict[str, str] = json.loads(found.read_text(encoding="utf-8"))
        return digests


def copy(source: Path, destination: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, destination)
    else:
        shutil.copy(source, destination)


def digest(path: Path) -> str:
    """The SHA-256 of all names and contents of a file or a folder."""
    whole = hashlib.sha256()
    for part in sorted([path, *path.rglob("*")]):
        whole.update(str(part.relative_to(path)).encode() + b"\0")
        if part.is_file():
            whole.update(part.read_bytes())
    return whole.hexdigest()
