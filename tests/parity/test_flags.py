"""Every flag of `python -m parity` that takes a path."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from parity.__main__ import COMMANDS, main

PATHS = {"FILE", "FOLDER", "SRC", "DST", "PATH", "CHECKPOINT", "NAME", "FILE.py[:FUNCTION]"}
NAMES = {"layout", "weights", "names"}  # that are no paths


def path_flags(command: str) -> list[argparse.Action]:
    """The arguments of a command that take a path."""
    added = argparse.ArgumentParser()
    next(c for c in COMMANDS if c.name == command).add_flags(added)
    return [a for a in added._actions if a.metavar in PATHS and a.dest not in NAMES]


CASES = [
    (command.name, action.option_strings[-1] if action.option_strings else action.dest)
    for command in COMMANDS
    for action in path_flags(command.name)
]


@pytest.mark.parametrize(("command", "flag"), CASES)
def test_an_address_is_refused_before_anything_runs(
    command: str,
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    others = [a for a in path_flags(command) if a.required and flag not in (a.dest, *a.option_strings)]
    arguments = [f"{a.option_strings[-1]}=x" if a.option_strings else "x" for a in others]
    if flag.startswith("-"):
        arguments.append(f"{flag}=gs://bucket/x")
    else:
        at = [a.dest for a in path_flags(command) if not a.option_strings].index(flag)
        arguments.insert(at, "gs://bucket/x")
    assert main([command, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: gs://bucket/x: gs:// is not supported")
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_all_paths_are_among_them():
    assert len(CASES) == 20
    for command in COMMANDS:
        added = argparse.ArgumentParser()
        command.add_flags(added)
        assert [action.dest for action in added._actions if action.type is Path] == []
