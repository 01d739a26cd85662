"""Runs of main.py as several processes, on the loopback interface and simulated devices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import flax_resnet.checkpoint
import torch_ref.checkpoint
from parity.budgets.reference import distance, ratio
from parity.verify.process_runs import free_port
from parity.verify.training_runs import ENGINES, flat
from recipe.state_dict import Arrays
from recipe.training import checkpoints
from recipe.training.log import read_metrics

ROOT = Path(__file__).parent.parent.parent
SUFFIX = {"jax": "", "torch": ".pt"}
BOUND = 1e-9  # of the largest element: what level 7 allows two engines in 30 steps of float64
SECONDS = 300  # after which a run counts as hanging
# 30 steps: augmentation, two lr drops within, a remainder that is dropped; the smallest network
RECIPE = (
    "--config=configs/r18.py",
    "--config.data.name=folder",
    "--config.model.arch=resnet20",
    "--config.model.width=4",
    "--config.batch_size=32",  # 10 steps an epoch
    "--config.epochs=3",
    "--config.eval_batch_size=10",  # no multiple of 4
    "--config.optimizer.lr=0.01",  # below chaos, which would enlarge rounding
    "--config.log.tensorboard=false",
    "--config.log.seconds=0",
)


def make_pictures(folder: Path) -> Path:
    """Write 330 training and 33 test pictures of three classes: noise around a pattern for each class.

    Real digits would not do: their background is one colour, and where a ReLU is near a tie, rounding decides
    about all of it at once.
    """
    rng = np.random.default_rng(0)
    for name in ("red", "green", "blue"):
        pattern = np.kron(rng.normal(size=(4, 4, 3)), np.ones((8, 8, 1)))
        for split, count in (("train", 110), ("test", 11)):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(count):
                picture = 128 + 40 * pattern + 20 * rng.normal(size=(32, 32, 3))
                Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{i}.png")
    return folder


@dataclasses.dataclass
class Processes:
    """The processes of a run; of PyTorch's, torchrun is the first of `started` and the only one."""

    engine: str
    workdir: Path
    started: list[subprocess.Popen[bytes]]
    outputs: list[Path]  # what each says on stdout and stderr

    def said(self) -> str:
        """What all have said."""
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in self.outputs)

    def wait(self) -> list[int]:
        """The exit statuses, when all have ended."""
        return [process.wait(SECONDS) for process in self.started]

    def wait_for(self, words: str) -> None:
        """Wait until somebody says this."""
        until = time.monotonic() + SECONDS
        while not re.search(words, self.said()):
            if time.monotonic() > until or all(p.poll() is not None for p in self.started):
                raise AssertionError(f"nobody said {words!r}: {self.said()}")
            time.sleep(0.05)

    def send(self, index: int, number: signal.Signals) -> None:
        """Send a signal to one of the processes."""
        os.kill(self.pid(index), number)

    def pid(self, index: int) -> int:
        """The process id of one of them."""
        if self.engine == "jax":
            return self.started[index].pid
        found = subprocess.run(
            ["pgrep", "-P", str(self.started[0].pid), "-f", "main.py"], capture_output=True, text=True
        )
        return sorted(map(int, found.stdout.split()))[index]


@contextlib.contextmanager
def start(
    engine: str,
    count: int,
    workdir: Path,
    *flags: str,
    devices: int = 1,
    own: Sequence[Sequence[str]] = (),
    program: str = "",
    only: Sequence[int] = (),
) -> Iterator[Processes]:
    """Start a run in `count` processes, none of which outlives the block.

    Args:
      engine: who computes.
      count: how many processes the run has.
      workdir: the run's.
      flags: of all processes.
      devices: that each has.
      own: flags of each of JAX's processes.
      program: Python that is run in the place of main.py.
      only: those of JAX's processes that are started; all if empty.
    """
    port = free_port()
    pictures = workdir.parent / "pictures"
    if not pictures.exists():
        make_pictures(pictures)
    recipe = [*RECIPE, f"--config.data.dir={pictures}", f"--config.engine={engine}"]
    command = [*recipe, f"--workdir={workdir}", *flags]
    environment: dict[str, Any] = os.environ | {"OMP_NUM_THREADS": "1", "JAX_NUM_CPU_DEVICES": str(devices)}
    environment.pop("XLA_FLAGS", None)
    main = [str(workdir.parent / "program.py")] if program else ["main.py"]
    if program:
        Path(main[0]).write_text(program, encoding="utf-8")
        environment["PYTHONPATH"] = str(ROOT)
    if engine == "torch" and count > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
        commands = [[*launcher, f"--master-port={port}", *main, *command]]
    elif count == 1:
        commands = [[sys.executable, *main, *command]]
    else:
        commands = [
            [
                sys.executable, *main, *command, f"--coordinator=127.0.0.1:{port}",
                f"--processes={count}", f"--process_id={index}", *(own[index] if own else ()),
            ]
            for index in (only or range(count))
        ]  # fmt: skip
    outputs = [workdir.parent / f"{workdir.name}.{port}.{i}" for i in range(len(commands))]
    started = []
    for line, output in zip(commands, outputs, strict=True):
        with output.open("wb") as file:
            started.append(
                subprocess.Popen(line, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
            )
    run = Processes(engine, workdir, started, outputs)
    try:
        yield run
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.kill() if engine == "jax" else process.terminate()
            process.wait()


def train(engine: str, count: int, workdir: Path, *flags: str, devices: int = 1) -> str:
    """Train to the end; what was said."""
    with start(engine, count, workdir, *flags, devices=devices) as run:
        statuses = run.wait()
        assert not any(statuses), run.said()
        return run.said()


def outcome(workdir: Path, engine: str) -> Arrays:
    """What a run ends in, by PyTorch's names: parameters, statistics, momentum."""
    sides = {"jax": flax_resnet.checkpoint, "torch": torch_ref.checkpoint}
    newest = checkpoints.newest(workdir / checkpoints.FOLDER / checkpoints.LATEST, SUFFIX[engine])
    assert newest is not None
    state = flat(ENGINES[engine].to_state(sides[engine].read(newest)[1]))
    return {name: np.asarray(array) for name, array in state.items() if "num_batches_tracked" not in name}


def furthest(ours: Arrays, theirs: Arrays) -> tuple[float, str]:
    """The largest ‖a − b‖∞/‖b‖∞ of all tensors, and whose it is."""
    assert ours.keys() == theirs.keys()
    return max(
        (ratio(distance(ours[name], theirs[name], "f64"), float(np.abs(theirs[name]).max())), name)
        for name in theirs
    )


def assert_same_records(one: Path, other: Path, rel: float) -> None:
    """Both runs logged the same: counts are equal as integers, losses up to rounding."""
    ours, theirs = read_metrics(one), read_metrics(other)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        for name in ("epoch", "step", "lr", "train_acc", "test_acc"):
            assert a[name] == b[name], name
        for name in ("train_loss", "test_loss"):
            assert abs(a[name] - b[name]) <= rel * abs(b[name]), name
