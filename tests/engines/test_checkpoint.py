"""Writers of checkpoints: what fails, what is printed, and that nothing is lost at exit."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flax_resnet.checkpoint
import recipe.training.weights
import torch_ref.checkpoint
from flax_resnet.quiet_orbax import first_error_only
from recipe.system.errors import Damaged, UserError
from recipe.training.checkpoints import FOLDER

ROOT = Path(__file__).parent.parent.parent
TENSORS = {"model": {"weight": torch.arange(3.0)}}


def progress(step: int) -> dict[str, Any]:
    return {"step": step, "sums": {"loss": 0.0, "correct": 0, "steps": 0}}


def steps(workdir: Path, kind: str = "latest") -> list[str]:
    return sorted(path.name for path in (workdir / FOLDER / kind).iterdir())


def test_an_error_of_a_save_is_raised_once_and_later_saves_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path, content: dict, below: Path) -> None:
        raise OSError("no space left on device")

    writer = torch_ref.checkpoint.CheckpointWriter(tmp_path, {})
    writer.save("latest", 1, TENSORS, {})
    with monkeypatch.context() as patch:
        writer.wait()
        patch.setattr(torch_ref.checkpoint, "save", full)
        writer.save("latest", 2, TENSORS, {})
        with pytest.raises(UserError, match=r"can't save .*\.pt: no space left"):
            writer.wait()
        writer.wait()
        writer.save("latest", 3, TENSORS, {})
        with pytest.raises(UserError, match=r"can't save .*\.pt: no space left"):
            writer.save("latest", 4, TENSORS, {})
    assert steps(tmp_path) == ["1.pt"]
    writer.save("latest", 5, TENSORS, progress(5))
    writer.wait()
    assert steps(tmp_path) == ["1.pt", "5.pt"]
    record, tree = torch_ref.checkpoint.read(tmp_path / FOLDER / "latest" / "5.pt")
    assert record["progress"] == progress(5)
    assert torch.equal(tree["model"]["weight"], TENSORS["model"]["weight"])


EXIT = """
import sys, time
from pathlib import Path
import torch
from torch_ref import checkpoint
save = checkpoint.save
checkpoint.save = lambda *args, **more: (time.sleep(1), save(*args, **more))
checkpoint.CheckpointWriter(Path(sys.argv[1]), {}).save("latest", 1, {"model": {"weight": torch.ones(2)}}, {})
"""


def test_a_program_that_ends_waits_for_the_save_under_way(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", EXIT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(tmp_path) == ["1.pt"]


@pytest.mark.parametrize("engine", [flax_resnet, torch_ref])
def test_a_workdir_that_is_gone_is_not_made_anew(engine: Any, tmp_path: Path):
    workdir = tmp_path / "run"
    writer = engine.checkpoint.CheckpointWriter(workdir, {})
    writer.save("latest", 1, TENSORS if engine is torch_ref else {"params": {"a": np.ones(2)}}, progress(1))
    with pytest.raises(UserError, match=f"can't save {workdir}/checkpoints/latest/1.*: No such file"):
        writer.wait()
    assert not workdir.exists()


def test_orbax_keeps_the_two_latest_and_one_best_without_a_warning(tmp_path: Path):
    tree = {"params": {"conv1": {"kernel": np.ones((3, 3), np.float32)}}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first in (1, 3):  # the second run goes on in the first one's workdir
            writer = flax_resnet.checkpoint.CheckpointWriter(tmp_path, {})
            for step in (first, first + 1):
                writer.save("latest", step, tree, progress(step))
            writer.save("best", first, tree, progress(first))
            writer.wait()
            assert steps(tmp_path) == [str(first), str(first + 1)]
            assert steps(tmp_path, "best") == [str(first)]
    record, saved = flax_resnet.checkpoint.read(tmp_path / FOLDER / "latest" / "4")
    assert record["progress"] == progress(4)
    np.testing.assert_array_equal(saved["params"]["conv1"]["kernel"], tree["params"]["conv1"]["kernel"])


DAMAGED = """
import sys
from pathlib import Path
import numpy as np
from flax_resnet import checkpoint
from recipe.system.errors import Damaged, UserError
path = Path(sys.argv[1])
draw = np.random.default_rng(0)
checkpoint.write(path, {}, {"params": {str(i): draw.random((200, 200)) for i in range(60)}})
for file in path.glob("state/**/d/*"):
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    content[1000::1000] ^= 255
    file.write_bytes(content.tobytes())
for _ in range(20):  # whether a thread is late is chance
    try:
        checkpoint.read(path)
    except UserError as error:
        print(error)
"""


def test_of_many_damaged_arrays_orbax_reports_one(tmp_path: Path):
    """In a program of its own: under pytest, what threads can't raise is no output but a warning."""
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", DAMAGED, str(tmp_path / "checkpoint")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == done.stdout.count("is not a readable checkpoint") == 20


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from flax_resnet import checkpoint
from recipe.system.errors import Damaged, UserError
writer = checkpoint.CheckpointWriter(Path(sys.argv[1]), {})
tree = {"params": {str(i): np.random.default_rng(i).random((200, 200)) for i in range(30)}}
writer.save("latest", 1, tree, {})
writer.wait()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
writer.save("latest", 2, tree, {})
try:
    writer.wait()
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
writer.save("latest", 3, tree, {})
writer.wait()
"""


def test_a_save_by_orbax_that_fails_is_one_line_and_the_process_ends(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"can't save {tmp_path / FOLDER / 'latest' / '2'}: ")
    assert len(done.stdout.splitlines()) == 1
    assert [name for name in steps(tmp_path) if name.isdecimal()] == ["1", "3"]


NO_SPACE = "No space left on device"


@pytest.mark.parametrize(
    "said",
    [
        f"RESOURCE_EXHAUSTED: Error opening: Failed to write: {NO_SPACE} [os_error_code='28']",
        f"UNKNOWN: Error writing\nFailed: [OS error 28: {NO_SPACE}]",
    ],
)
def test_of_a_full_disk_tensorstore_s_many_words_become_the_system_s_own(said: str):
    error = flax_resnet.checkpoint._os_error(ValueError(said))
    assert (error.errno, error.strerror) == (28, NO_SPACE)


def test_another_error_of_tensorstore_is_its_first_line():
    error = flax_resnet.checkpoint._os_error(ValueError("INTERNAL: broken\nmore"))
    assert (error.errno, str(error)) == (None, "INTERNAL: broken")


def test_asyncio_keeps_quiet_about_the_tasks_of_orbax_alone(caplog: pytest.LogCaptureFixture):
    with first_error_only():
        pass
    never = "Task exception was never retrieved\nfuture: <Task coro=<f() at /x/{}/a.py> exception={}>"
    of_theirs = [
        never.format("orbax", "KeyError('a')"),
        never.format("tensorstore", "KeyError('a')"),
        never.format("asyncio", """ValueError('FAILED_PRECONDITION: Error reading "a" in OCDBT')"""),
    ]
    of_others = [
        never.format("others", "KeyError('a')"),
        never.format("asyncio", "ValueError('Error: a')"),
        "Slow: orbax",
    ]
    for message in of_theirs + of_others:
        logging.getLogger("asyncio").error(message)
    assert [record.getMessage() for record in caplog.records] == of_others


def test_a_pipe_in_a_checkpoint_is_not_waited_for(tmp_path: Path):
    (tmp_path / "7" / "record").mkdir(parents=True)
    os.mkfifo(tmp_path / "7" / "record" / "metadata")
    os.mkfifo(tmp_path / "7.pt")
    for path, read in (
        (tmp_path / "7", flax_resnet.checkpoint.read),
        (tmp_path / "7.pt", torch_ref.checkpoint.read),
        (tmp_path / "7.pt", recipe.training.weights.read),
    ):
        with pytest.raises(UserError, match=f"{path} is not a readable checkpoint .*it is a pipe, no file"):
            read(path)


def test_no_room_is_made_for_a_text_that_is_said_to_have_terabytes(tmp_path: Path):
    (tmp_path / "7.pt").write_bytes(b"\x80\x04\x8d" + (1 << 42).to_bytes(8, "little") + b"text")
    with pytest.raises(UserError, match="is not a readable checkpoint") as error:
        torch_ref.checkpoint.read(tmp_path / "7.pt")
    assert "Memory" not in str(error.value)


def test_a_name_that_tensorstore_can_t_take_is_refused_before_anything_is_done(tmp_path: Path):
    """The checkpoint is not called damaged."""
    name = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (name / "7" / "record").mkdir(parents=True)
    for use in (
        lambda: flax_resnet.checkpoint.read(name / "7"),
        lambda: flax_resnet.checkpoint.write(name / "8", {}, {}),
        lambda: flax_resnet.checkpoint.CheckpointWriter(name, {}),
    ):
        with pytest.raises(UserError, match="can only be in folders whose names are UTF-8") as error:
            use()
        assert not isinstance(error.value, Damaged)
    assert not (name / "8").exists()
