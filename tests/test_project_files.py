"""What stands in several files about the project is the same in all; what calls make calls what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def test_the_version_and_the_license_are_the_same_everywhere():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    latest = re.search(r"^## (.*)$", text("CHANGELOG.md"), re.MULTILINE)
    assert latest
    assert latest[1] == PROJECT["version"]


def test_the_workflow_runs_what_make_test_runs_on_pythons_that_are_supported():
    job = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]["test"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands == ["make test PYTHON=python${{ matrix.python }}"]
    versions = job["strategy"]["matrix"]["python"]
    assert len(versions) > 1
    assert all(SpecifierSet(PROJECT["requires-python"]).contains(version) for version in versions)


def test_the_hook_before_a_commit_is_a_part_of_make_test():
    (repo,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    (hook,) = repo["hooks"]
    assert hook["entry"] == "make style"
    assert re.search(r"^test: style$", text("Makefile"), re.MULTILINE)
    style = re.search(r"^style: setup\n((?:\t.*\n)+)", text("Makefile"), re.MULTILINE)
    assert style
    assert {"ruff", "mypy"} == set(re.findall(r"\$\(BIN\)/(\w+)", style[1]))
