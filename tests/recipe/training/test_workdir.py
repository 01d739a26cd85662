"""One process at a time trains in a workdir."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recipe.data import Dataset
from recipe.system.errors import UserError
from recipe.training import workdir
from recipe.training.description import describe_run

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys, time
from pathlib import Path
from recipe.training import workdir
with workdir.locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path):
    """Even one that could not clean up behind itself."""
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            with pytest.raises(UserError) as error, workdir.locked(run):
                pytest.fail("two at a time")
            assert str(error.value).startswith(f"another process trains in {run} (pid {holder.pid} on ")
            assert "): wait until it has ended, or choose another --workdir" in str(error.value)
            with workdir.locked(tmp_path / "other"):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    with workdir.locked(run):
        assert (run / workdir.LOCK).read_text().startswith(f"pid {os.getpid()} on ")


def test_the_lock_ends_with_the_run_also_when_that_fails(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), workdir.locked(tmp_path):
        raise ZeroDivisionError
    with workdir.locked(tmp_path), pytest.raises(UserError), workdir.locked(tmp_path):
        pytest.fail("two at a time")


def test_without_locks_in_the_file_system_nobody_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with workdir.locked(tmp_path):
        assert (tmp_path / workdir.LOCK).exists()


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="can't write to the workdir"), workdir.locked(folder):
            pytest.fail("there is none")


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"\xff", b"{"]
)
def test_a_config_that_is_none_is_one_line(content: bytes, tmp_path: Path, config: Any, data: Dataset):
    (tmp_path / workdir.CONFIG).write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json is damaged: .*; choose another --workdir") as error:
        workdir.check_or_create(describe_run(config, data, tmp_path))
    assert "\n" not in str(error.value)


def test_values_from_a_file_are_shown_without_what_a_terminal_obeys(
    tmp_path: Path, config: Any, data: Dataset
):
    run = describe_run(config, data, tmp_path)
    workdir.check_or_create(run)
    for value in ("\x1b[2J\n", "x" * 10**5, ["\x1b[2J"], 2**70, {"a": [1] * 1000}):
        content = json.loads((tmp_path / workdir.CONFIG).read_text()) | {"seed": value}
        (tmp_path / workdir.CONFIG).write_text(json.dumps(content))
        with pytest.raises(UserError, match=r"a run with other .*seed") as error:
            workdir.check_or_create(run)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 500


def test_a_workdir_that_is_gone_or_another_one_is_noticed(tmp_path: Path):
    folder, aside = tmp_path / "run", tmp_path / "aside"
    place = workdir.Place(folder)
    with pytest.raises(UserError, match=r"run is gone: .*; once it is back, the same command goes on"):
        place.require()
    folder.mkdir()
    place.require()
    folder.rename(aside)
    folder.mkdir()
    with pytest.raises(UserError, match="is gone"):
        place.require()
    folder.rmdir()
    aside.rename(folder)
    place.require()


def test_a_lock_that_can_t_be_written_names_the_workdir(tmp_path: Path):
    """Also when closing the file would try again to write what it holds."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with (
            pytest.raises(UserError, match=f"can't write to the workdir {tmp_path}: File too large"),
            workdir.locked(tmp_path),
        ):
            pytest.fail("it can't be locked")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, before)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path):
    """A workdir may come from anybody, and the lock is emptied before it is written."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / workdir.LOCK).symlink_to("../theirs")
    with pytest.raises(UserError, match=r"can't write to the workdir .*: \.lock is a link"):
        workdir.locked(tmp_path / "run").__enter__()
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("link", ["checkpoints", "checkpoints/latest", "checkpoints/best"])
def test_checkpoints_are_not_deleted_through_a_link(link: str, tmp_path: Path):
    (tmp_path / "photos" / "2019").mkdir(parents=True)
    (tmp_path / "run" / link).parent.mkdir(parents=True)
    (tmp_path / "run" / link).symlink_to(tmp_path / "photos")
    with pytest.raises(UserError, match=rf"{link} is a link, and a run deletes what it finds there"):
        workdir.locked(tmp_path / "run").__enter__()
    assert (tmp_path / "photos" / "2019").is_dir()


def test_a_workdir_may_be_a_link_itself(tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "run").symlink_to("other")
    with workdir.locked(tmp_path / "run"):
        assert (tmp_path / "other" / workdir.LOCK).is_file()


def test_a_config_in_a_pipe_is_not_waited_for(config: Any, data: Dataset, tmp_path: Path):
    os.mkfifo(tmp_path / workdir.CONFIG)
    with pytest.raises(UserError, match=r"config\.json is damaged: it is a pipe, no file"):
        workdir.check_or_create(describe_run(config, data, tmp_path))
