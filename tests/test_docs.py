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
from parity.mutants.catalogue import MUTANTS
from tools.profile import __main__ as profile

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


@pytest.mark.parametrize("command", starting_with(r"python -m tools\.profile\b"))
def test_a_command_of_the_profile_is_understood(command: str):
    profile.parser().parse_args(shlex.split(command)[3:])


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_heading_that_a_document_points_to_is_there(document: Path):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]*\.md|)#([^)\s]+)\)", text)
    missing = [link for link in links if link[1] not in anchors(document.parent / (link[0] or document.name))]
    assert not missing


def anchors(document: Path) -> set[str]:
    """What GitHub calls the headings of a document: small letters, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page():
    assert len(README.encode()) <= 8000


def test_the_readme_leads_to_every_page():
    pages = {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")}
    assert not pages - set(re.findall(r"\]\(([^)#\s]+)", README))


@pytest.mark.parametrize("file", ["flax_resnet/model.py", "torch_ref/model.py"])
def test_the_readme_shows_the_block_as_it_is(file: str):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    shown = [line.strip() for line in blocks[file.startswith("torch_ref")].splitlines() if line.strip()]
    text = (ROOT / file).read_text(encoding="utf-8")
    block = text.partition("class ResBlock")[2].partition("\nclass ")[0]
    lines = [line.strip() for line in block.splitlines() if line.strip() and '"""' not in line]
    assert lines[-len(shown) :] == shown


def test_the_readmes_traps_are_planted():
    section = README.partition("## Traps")[2].partition("\n## ")[0]
    known = {mutant.name for mutant in MUTANTS} | {"compare"}  # which names what this network can't have
    for row in re.findall(r"^\| .* \|$", section, re.MULTILINE)[1:]:
        planted = set(re.findall(r"`([^`]+)`", row.split("|")[-2]))
        assert planted, row
        assert planted <= known, row


def test_the_program_in_predict_runs_on_a_network_just_trained(tmp_path: Path):
    text = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
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
