"""The smallest run there is, and what has to be the same at the end of it, whatever happened on its way."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.stress.faults import Faults, counted
from tests.stress.warm import Child

EPOCHS, STEPS = 2, 4  # of the whole run
TIMES = ("seconds", "images_per_second")  # of a record, the only fields that differ from run to run
NAMES = {
    ".lock", "checkpoints", "config.json", "confusion.png", "curves.png", "layers.txt", "log.txt",
    "metrics.jsonl", "mistakes.png", "tensorboard",
}  # fmt: skip
ASIDE = "metrics.aside.jsonl"


class Ending(NamedTuple):
    """What a run leaves, but for times and the names that orbax draws."""

    checkpoints: dict[str, dict[str, str]]  # path → name of an array → SHA-256
    metrics: list[dict[str, Any]]
    files: dict[str, str]  # of those that are the same to the byte: name → content


class Bench:
    """Runs of one engine, in forked processes, below one folder."""

    def __init__(self, folder: Path, engine: str):
        self.folder, self.engine = folder, engine
        self._pictures = folder / "pictures"
        if not self._pictures.exists():
            draw_pictures(self._pictures)
        self._number = 0
        self._warm_up()

    def measure(self) -> None:
        """Do the run without faults: how many operations and seconds it takes, and how it ends."""
        workdir, count = self.new_workdir(), self.folder / f"count-{self.engine}"
        started = time.monotonic()
        self.wait(self.start(workdir, Faults(workdir, count=count)), 0)
        self.seconds = time.monotonic() - started
        self.operations = counted(count)
        self.undisturbed = self.ending(workdir)
        assert f"best/{STEPS}" in str(list(self.undisturbed.checkpoints)), "the last epoch must be the best"

    def _warm_up(self) -> None:
        """Fill the caches by a first run, and import here what it imported on its way."""
        workdir, modules = self.new_workdir(), self.folder / f"modules-{self.engine}"

        def program() -> int:
            status = run_main(self.arguments(workdir))
            modules.write_text("\n".join(sys.modules), encoding="utf-8")
            return status

        self.wait(Child(program, self.folder / "warm-up.output"), 0)
        for name in modules.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(Exception):  # a module that another one has put there itself
                importlib.import_module(name)
        shutil.rmtree(workdir)

    def new_workdir(self) -> Path:
        """A path that is free."""
        self._number += 1
        return self.folder / f"{self.engine}-{self._number}"

    def arguments(self, workdir: Path) -> list[str]:
        """The command line of the run."""
        return [
            "main.py", "--config=configs/r18.py", "--config.data.name=folder",
            f"--config.data.dir={self._pictures}", f"--config.epochs={EPOCHS}", "--config.batch_size=4",
            "--config.eval_batch_size=20", "--config.seed=2", "--config.optimizer.lr=0.03",
            "--config.model.arch=resnet20", "--config.model.width=2",
            "--config.cpu_kernels=xla", "--config.checkpoint.minutes=0.000001",
            f"--config.engine={self.engine}", f"--workdir={workdir}",
        ]  # fmt: skip

    def start(self, workdir: Path, faults: Faults | None = None, name: str = "") -> Child:
        """Start the run in a workdir, or go on with it, as main.py does; `name` is that of its output."""
        arguments = self.arguments(workdir)

        return Child(lambda: run_main(arguments), self.folder / f"{name or workdir.name}.output", faults)

    def wait(self, child: Child, *statuses: int) -> int:
        """Wait for a run's end, which has to be one of these; see `Child.wait`."""
        status = child.wait()
        assert status in statuses, f"status {status}, not one of {statuses}: {child.said()[-4000:]}"
        return status

    def finish(self, workdir: Path) -> None:
        """Run the same command, which has to succeed, and compare the end with the undisturbed run's."""
        self.wait(self.start(workdir), 0)
        self.compare(workdir)

    def compare(self, workdir: Path) -> None:
        """Raise an `AssertionError` if a run did not end as the undisturbed one did; else delete it."""
        ending = self.ending(workdir)
        for ours, theirs, field in zip(ending, self.undisturbed, Ending._fields, strict=True):
            assert ours == theirs, f"{workdir}: other {field} than undisturbed: {different(ours, theirs)}"
        shutil.rmtree(workdir)

    def ending(self, workdir: Path) -> Ending:
        """Read a run that has ended.

        Raises:
          AssertionError: if a checkpoint is damaged, or there is a file that should not be.
        """
        names = {path.name for path in workdir.iterdir()} - {ASIDE}
        assert names == NAMES, f"{workdir} holds {sorted(names ^ NAMES)} too many or too few"
        for path in workdir.rglob("*"):
            assert not (path.name.startswith(".") and path.name != ".lock"), f"left behind: {path}"
        events = [path.name for path in (workdir / "tensorboard").iterdir()]
        assert all(name.startswith("events.out.tfevents.") for name in events), events
        metrics = without_times((workdir / "metrics.jsonl").read_bytes())
        if (workdir / ASIDE).exists():  # what was done anew has come to the same
            for record in without_times((workdir / ASIDE).read_bytes()):
                assert record in metrics, f"{workdir / ASIDE} holds a record that metrics.jsonl lacks"
        same = ("config.json", "layers.txt", "confusion.png", "mistakes.png")
        files = {name: (workdir / name).read_bytes().hex() for name in same}
        return Ending(self.arrays(workdir / "checkpoints"), metrics, files)

    def arrays(self, folder: Path) -> dict[str, dict[str, str]]:
        """The digests of all arrays of all checkpoints, which are read in a process of their own."""
        found = self.folder / f"arrays-{self.engine}.json"
        engine = {"jax": "flax_resnet", "torch": "torch_ref"}[self.engine]

        def read() -> int:
            checkpoint = importlib.import_module(f"{engine}.checkpoint")
            digests = {}
            for path in sorted(folder.glob("*/*")):
                assert re.fullmatch(r"\d+(\.pt)?", path.name), f"left behind: {path}"
                record, tree = checkpoint.read(path)
                digests[str(path.relative_to(folder.parent))] = {
                    "record": json.dumps(record, sort_keys=True), **checkpoint._digests(tree)
                }  # fmt: skip
            found.write_text(json.dumps(digests), encoding="utf-8")
            return 0

        self.wait(Child(read, self.folder / "read.output"), 0)
        digests: dict[str, dict[str, str]] = json.loads(found.read_text(encoding="utf-8"))
        return digests


def measured(folder: Path, engine: str) -> Bench:
    """A bench that knows its run's end."""
    bench = Bench(folder, engine)
    bench.measure()
    return bench


def run_main(arguments: list[str]) -> int:
    """Run main.py's program in this process; its exit status."""
    from recipe import cli

    sys.argv = arguments
    return cli.main()


def without_times(lines: bytes) -> list[dict[str, Any]]:
    """The whole records of a metrics.jsonl, without their times."""
    records = []
    for line in lines.splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # the half of one, which is what metrics.aside.jsonl is for
            continue
        records.append({name: value for name, value in record.items() if name not in TIMES})
    return records


def different(ours: Any, theirs: Any) -> str:
    """What differs, in short."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
        return ", ".join(sorted(names))[:500]
    return f"{ours} and {theirs}"[:2000]


def draw_pictures(folder: Path) -> None:
    """8 training and 20 test pictures of two classes, which differ in their colour, and not by much."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 10)):
        for number, name in enumerate(("blue", "red")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 200, (32, 32, 3)) + 50 * np.eye(3, dtype=int)[2 * number]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{i}.png")
