"""Which packages are installed for what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def packages(file: str) -> dict[str, str]:
    """Name → what stands behind it in a requirements file, without comments; pins of one package joined."""
    found: dict[str, str] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z][a-z0-9-]+)(\S*.*?)\s*(#.*)?$", line):
            found[match[1]] = found.get(match[1], "") + match[2]
    return found


def test_all_pins_are_in_one_file():
    small, whole = packages("requirements-jax.txt"), packages("requirements.txt")
    assert "-c requirements.txt" in (ROOT / "requirements-jax.txt").read_text(encoding="utf-8").splitlines()
    assert "jax" in small
    assert "torch" not in small
    assert small.keys() <= whole.keys()
    assert not any("=" in rest.partition(";")[0] for rest in small.values())
    assert all("==" in rest for rest in whole.values())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile with what its set-up reads, and in the place of Python a program that lists its calls."""
    for name in ("Makefile", "requirements.txt", "requirements-jax.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/sh\necho "$@" >> calls\n'
        '[ "$2" != venv ] || { mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; }\n'
        '[ "$2" != tools.recipe_for_here ] || echo configs/r18.py:cpu\n'
    )
    python.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/find_python.sh").write_text(f"#!/bin/sh\necho {python}\n")
    (tmp_path / "scripts/find_python.sh").chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str) -> list[str]:
    """The calls of Python that a target makes."""
    (checkout / "calls").write_text("")
    subprocess.run(["make", target], cwd=checkout, check=True, capture_output=True)
    quiet = "-m pip install --quiet --disable-pip-version-check -r "
    return [line.removeprefix(quiet) for line in (checkout / "calls").read_text().splitlines()]


TRAIN = ["-m tools.recipe_for_here", "main.py --config=configs/r18.py:cpu"]
NEW = ["-m venv .venv", "requirements-jax.txt"]


def test_train_installs_the_small_part_and_setup_the_rest_into_the_same_environment(checkout: Path):
    assert make(checkout, "train") == [*NEW, *TRAIN]
    assert make(checkout, "train") == TRAIN
    assert make(checkout, "setup") == ["requirements.txt"]
    assert make(checkout, "setup") == []
    assert make(checkout, "train") == TRAIN


def test_train_needs_no_more_than_setup_has_installed(checkout: Path):
    assert make(checkout, "setup") == [*NEW, "requirements.txt"]
    assert make(checkout, "train") == TRAIN


@pytest.mark.parametrize("changed", ["requirements.txt", "requirements-jax.txt"])
def test_other_requirements_make_a_new_environment(checkout: Path, changed: str):
    make(checkout, "setup")
    later = (checkout / ".venv/.installed").stat().st_mtime + 1
    os.utime(checkout / changed, (later, later))
    assert make(checkout, "setup") == [*NEW, "requirements.txt"]


def test_nothing_is_trained_where_jax_can_not_start(checkout: Path):
    python = checkout / "python"
    python.write_text(python.read_text().replace("echo configs/r18.py:cpu", "exit 2"))
    with pytest.raises(subprocess.CalledProcessError):
        make(checkout, "train")
    assert (checkout / "calls").read_text().splitlines()[-1] == TRAIN[0]
