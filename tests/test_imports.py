"""The import rules of the packages, by reading the files and by looking at running programs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from parity import __main__ as parity
from tests.parity.helpers import describe
from torch_ref.model import ResNet

ROOT = Path(__file__).parent.parent
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
TORCH = {"torch", "torchvision"}
OTHERS = {"tensorflow", "tensorboardX"}  # TensorFlow is not needed; tensorboardX loads PyTorch
FORBIDDEN = {
    "tools": OTHERS,
    "parity": {"tensorflow", "tensorboardX", "tools"},
    "configs": JAX | TORCH | OTHERS | {"recipe", "flax_resnet", "torch_ref", "parity", "tools"},
    "recipe": JAX | TORCH | OTHERS | {"flax_resnet", "torch_ref", "parity", "tools"},
    "flax_resnet": TORCH | OTHERS | {"torch_ref", "parity", "configs"},
    "torch_ref": JAX | OTHERS | {"flax_resnet", "parity", "configs"},
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(str(node.module).partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_file_imports_what_its_package_may_not(package: str):
    files = list((ROOT / package).rglob("*.py"))
    assert files
    assert {path.name: bad for path in files if (bad := imported(path) & FORBIDDEN[package])} == {}


# Part → the parts of the same package that it may import. Parts are its files and folders.
AGREED = ("architectures", "initial_weights", "normalisation", "plan", "resize", "schedule", "state_dict")
ARROWS = {
    "parity": {
        "tensors": set(),
        "arrays": {"tensors"},
        "threads": set(),
        "engines": {"tensors", "arrays", "threads"},
        "budgets": set(),
        "convert": {"flags", "tensors", "arrays", "engines", "budgets"},
        "cause": set(),
        "result": {"cause"},
        "report": {"result"},
        "comparison": {"flags", "environment", "budgets", "cause", "result", "report", "threads"},
        "verify": {
            "flags",
            "environment",
            "tensors",
            "arrays",
            "engines",
            "budgets",
            "convert",
            "cause",
            "result",
            "report",
            "comparison",
        },
        "mutants": {"flags", "verify"},  # of verify only where the project lies: it runs it as a program
        "speed": {"environment", "tensors", "arrays", "engines", "budgets"},
        "flags": set(),
        "environment": set(),
        "layouts": {"convert"},
        "__init__": {"convert", "comparison"},
        "__main__": {"flags", "convert", "comparison", "verify", "mutants", "speed"},
    },
    "recipe": {
        "system": set(),
        **{part: {"system"} for part in AGREED},
        "state_dict": {"architectures"},
        "data": {"system", "normalisation"},
        "output": {"system"},
        "processes": {"system"},
        "training": {"system", "data", "output", "processes", *AGREED},
        "commands": {"system", "data", "output", "processes", "training", *AGREED},
        "cli": {"commands", "system", "data", "processes", "training", "weights"},
        "weights": {"system"},
        "__init__": set(),
    },
}


def parts_imported(path: Path, package: str) -> set[str]:
    """The parts of a package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == package:
            names |= {f"{package}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


@pytest.mark.parametrize(("package", "part"), [(p, part) for p, parts in ARROWS.items() for part in parts])
def test_imports_within_a_package_run_one_way(package: str, part: str):
    folder = ROOT / package / part
    files = list(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    allowed = ARROWS[package][part] | {part}
    assert {f.name: bad for f in files if (bad := parts_imported(f, package) - allowed)} == {}


@pytest.mark.parametrize("package", ARROWS)
def test_every_part_of_a_package_has_its_arrows(package: str):
    found = {path.stem for path in (ROOT / package).iterdir() if path.name != "__pycache__"}
    assert found == set(ARROWS[package])


def test_verify_does_not_import_the_mutants_that_run_it():
    for path in (ROOT / "parity" / "verify").rglob("*.py"):
        assert "parity.mutants" not in path.read_text(encoding="utf-8"), path


def test_the_help_of_parity_loads_no_framework():
    program = f"""
import sys
from parity.__main__ import main
try:
    main(["--help"])
finally:
    print(sorted(set(sys.modules) & {JAX | TORCH!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("form", ["torch", "torch, legacy", "safetensors", "jax"])
def test_inspect_loads_only_what_the_file_needs(form: str, tmp_path: Path):
    """A framework takes seconds and half a gigabyte, for a file of a megabyte."""
    path = tmp_path / f"theirs{'.safetensors' if form == 'safetensors' else '.pth'}"
    state_dict = ResNet(describe("resnet18", classes=1000)).state_dict()
    if form == "safetensors":
        safetensors.torch.save_file(state_dict, path)
    else:
        torch.save(state_dict, path, _use_new_zipfile_serialization=form != "torch, legacy")
    if form == "jax":
        assert parity.main(["convert", str(path), str(tmp_path / "net"), "--no-check"]) == 0
        path = tmp_path / "net"
    program = f"""
import sys
from parity.__main__ import main
status = main(["inspect", {str(path)!r}])
print(status, sorted(set(sys.modules) & {TORCH | {"tensorflow"} | (JAX if form != "jax" else set())!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "1000 of imagenet: tench, goldfish" in done.stdout


PROGRAM = """
import sys
if {engine!r} == "jax":
    sys.path.insert(0, ".")
    from tests.only_installed import for_jax
    for_jax()
import main
sys.argv = ["main.py", "--config=configs/r18.py:digits", "--config.engine={engine}",
    "--config.epochs=1", "--config.model.arch=resnet20", "--config.model.width=2",
    "--config.batch_size=400", "--workdir={workdir}"]
status = main.main()
loaded = [name for name in {foreign!r} if name in sys.modules]
sys.exit(f"status {{status}}, loaded {{loaded}}" if status or loaded else 0)
"""


@pytest.mark.parametrize(
    ("engine", "foreign"),
    [("jax", ["torch", "torch_ref", "tensorflow"]), ("torch", ["jax", "flax", "flax_resnet", "tensorflow"])],
)
def test_training_with_one_engine_never_loads_the_other(engine: str, foreign: list[str], tmp_path: Path):
    """The whole main job, from flags to pictures."""
    program = PROGRAM.format(engine=engine, workdir=tmp_path / "run", foreign=foreign)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("Test loss: ")
    start_up = re.search(
        r"First step under way (\d+\.\d) s after the start, done after (\d+\.\d) s", done.stdout
    )
    assert start_up
    assert 0 < float(start_up[1]) <= float(start_up[2]) < 600
    outputs = {path.name for path in (tmp_path / "run").iterdir()}
    assert outputs == {
        ".lock", "checkpoints", "config.json", "confusion.png", "curves.png", "layers.txt", "log.txt",
        "metrics.jsonl", "mistakes.png", "tensorboard",
    }  # fmt: skip
