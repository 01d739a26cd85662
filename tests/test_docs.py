"""What the documents tell people to type works, and what they point to is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from parity.__main__ import parser

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("flax_resnet/**/*.md")])
COMMANDS = sorted(
    {
        line.partition(" #")[0].strip()
        for document in DOCUMENTS
        for line in document.read_text(encoding="utf-8").splitlines()
        # in a block of their own; a synopsis has brackets, which nobody types
        if line.startswith("    ") and "[" not in line.partition(" #")[0]
    }
)
CHECK = """
import sys
from recipe import cli
from recipe.training import settings
arguments = cli.parse()
settings.check(cli.CONFIG.value)
assert cli.MODE.value == "predict" or not arguments, arguments
"""


def starting_with(*words: str) -> list[str]:
    return [command for command in COMMANDS if re.match(" ".join(words), command)]


@pytest.mark.parametrize("command", starting_with(r"(\S*/)?python main\.py\b"))
def test_a_command_of_main_is_understood(command: str):
    arguments = shlex.split(command)[2:]
    done = subprocess.run([sys.executable, "-c", CHECK, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", starting_with(r"(\S*/)?python -m parity\b(?!\.)"))
def test_a_command_of_parity_is_understood(command: str):
    parser().parse_args(shlex.split(command)[3:])


def test_make_knows_its_targets():
    targets = {shlex.split(command)[1] for command in starting_with("make ")}
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    assert {"train", "test"} <= targets <= set(phony[1].split())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_is_there(document: Path):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_the_readmes_program_runs_on_a_network_just_trained(tmp_path: Path):
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 1
    train = [
        "--config=configs/r18.py:digits", "--config.epochs=1", "--config.model.arch=resnet20",
        "--config.model.width=4", f"--workdir={tmp_path / 'runs' / 'r18_digits'}",
    ]  # fmt: skip
    subprocess.run([sys.executable, "main.py", *train], cwd=ROOT, check=True, capture_output=True)
    Image.new("RGB", (300, 200), "white").save(tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", programs[0]],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in set("0123456789")
