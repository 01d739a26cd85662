"""Runs of several processes, all on this machine's CPU: what level 10 compares.

python -m parity.verify.process_runs ENGINE COUNT INDEX PORT FOLDER    one of them
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from parity.verify.project import ROOT
from parity.verify.training_runs import ENGINES, EPOCH, Setting, TrainingRun, flat
from recipe.processes.launch import Launch
from recipe.processes.world import World
from recipe.state_dict import Arrays

IMAGES = 7  # that are evaluated: no multiple of the processes
SECONDS = 300  # after which processes count as hanging


def trace(setting: Setting, run: TrainingRun) -> Arrays:
    """The state behind the first step and the last, the sums of all epochs, and logits."""
    found: dict[str, np.ndarray] = {}
    for step in range(setting.steps):
        if step % EPOCH == 0:
            run.start_epoch(setting)
            run.trainer.reset_sums()
        run.trainer.train_steps(at_most=1)
        if step in (0, setting.steps - 1):
            found |= {f"step {step + 1}: {name}": array for name, array in flat(run.state).items()}
        if (step + 1) % EPOCH == 0:
            found |= run.sums
    found["logits"] = np.asarray(run.trainer.logits(setting.data.test_images[:IMAGES]), np.float64)
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


def of_processes(setting: Setting, engine: str, count: int) -> Arrays:
    """The trace of a run of `count` processes, as process 0 sees it.

    Raises:
      RuntimeError: if a process fails or hangs; with its last line.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        (folder / "setting").write_bytes(pickle.dumps(setting))
        started = [_start(engine, count, index, port, folder) for index in range(count)]
        try:
            said = [process.communicate(timeout=SECONDS)[1] for process in started]
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"{count} processes of {engine} did not end within {SECONDS} seconds"
            ) from error
        finally:
            for process in started:
                process.kill()
        for index, process in enumerate(started):
            if process.returncode:
                last = (said[index].strip().splitlines() or ["no message"])[-1]
                raise RuntimeError(f"process {index} of {count} of {engine} failed: {last}")
        with np.load(folder / "trace.npz") as arrays:
            return dict(arrays)


def _start(engine: str, count: int, index: int, port: int, folder: Path) -> subprocess.Popen[str]:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(index), "WORLD_SIZE": str(count),
    }  # fmt: skip
    environment.pop("JAX_NUM_CPU_DEVICES", None)
    environment.pop("XLA_FLAGS", None)
    arguments = [engine, str(count), str(index), str(port), str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "parity.verify.process_runs", *arguments],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def main(engine: str, count: str, index: str, port: str, folder: str) -> None:
    """Run as one of several processes."""
    setting: Setting = pickle.loads((Path(folder) / "setting").read_bytes())
    world: World = ENGINES[engine].package.join(Launch(f"127.0.0.1:{port}", int(count), int(index)))
    with world.watched():
        found = trace(setting, setting.start(engine, world))
        if world.is_main:
            np.savez(Path(folder) / "trace.npz", allow_pickle=False, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
