"""What `pip install .` installs, and that it works away from the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("configs", "flax_resnet", "parity", "recipe", "torch_ref")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since setuptools leaves its work beside the sources."""
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = ["wheel", "--no-index", "--no-build-isolation", "--no-deps", f"--wheel-dir={made}", str(copy)]
    subprocess.run([*PIP, *build], check=True)
    (found,) = made.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pip installs, and its programs in bin/."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-index", "--no-deps", f"--target={target}", str(wheel)], check=True)
    return target


def run(
    installed: Path, folder: Path, program: str, *arguments: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run an installed program in a folder."""
    return subprocess.run(
        [installed / "bin" / program, *arguments],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(installed)} | env, capture_output=True, text=True,
    )  # fmt: skip


def test_the_wheel_holds_all_files_of_the_packages(wheel: Path):
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert files == {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert f"-{PROJECT['version']}-py3-none-any" in wheel.name
    assert any(name.endswith("/LICENSE") for name in zipfile.ZipFile(wheel).namelist())


def test_programs_are_found_and_explain_themselves_elsewhere(installed: Path, tmp_path: Path):
    done = run(installed, tmp_path, "resnet18", "--help")
    assert done.returncode == 0, done.stderr
    assert "--mode" in done.stdout
    assert "--checkpoint" in done.stdout
    done = run(installed, tmp_path, "resnet18-parity", "--help")
    assert done.returncode == 0, done.stderr
    assert "verify" in done.stdout


@pytest.mark.parametrize("config", [(), ("--config=configs/r18.py:cpu",), ("--config", "configs/r18.py:cpu")])
def test_the_configs_that_come_with_it_are_found_elsewhere(
    installed: Path, tmp_path: Path, config: tuple[str, ...]
):
    done = run(installed, tmp_path, "resnet18", *config, "--config.epochs=0")
    assert done.stderr == "error: config.epochs must be between 1 and 1e+06, not 0\n"


def test_a_config_of_the_current_folder_comes_before_the_installed_one(installed: Path, tmp_path: Path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/r18.py").write_text(
        (ROOT / "configs/r18.py")
        .read_text(encoding="utf-8")
        .replace("config.epochs = 200", "config.epochs = 0")
    )
    done = run(installed, tmp_path, "resnet18", "--config=configs/r18.py")
    assert done.stderr == "error: config.epochs must be between 1 and 1e+06, not 0\n"


def test_the_installed_network_is_summed_up_elsewhere(installed: Path, tmp_path: Path):
    done = run(installed, tmp_path, "resnet18", "--config=configs/r18.py:cpu", "--mode=summary")
    assert done.returncode == 0, done.stderr
    assert "Total params: 11,173,962" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "arguments"),
    [("resnet18", ("--config.engine=torch", "--mode=summary")), ("resnet18-parity", ("verify", "--quick"))],
)
def test_a_missing_pytorch_is_one_line(
    installed: Path, tmp_path: Path, program: str, arguments: tuple[str, ...]
):
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys; sys.path.append({str(ROOT)!r}); from tests.only_installed import for_jax; for_jax()\n"
    )
    path = os.pathsep.join(map(str, (tmp_path, installed)))
    done = run(installed, tmp_path, program, *arguments, PYTHONPATH=path)
    assert done.returncode == 2
    assert re.fullmatch(r"error: this needs PyTorch, .* pip install torch torchvision .*\n", done.stderr)


def test_the_ranges_are_around_the_pins_and_name_no_more_and_no_less():
    small = {Requirement(line).name for line in _lines("requirements-jax.txt") if line[0] != "-"}
    dependencies = [Requirement(text) for text in PROJECT["dependencies"]]
    torch = [Requirement(text) for text in PROJECT["optional-dependencies"]["torch"]]
    assert {one.name for one in dependencies} == small
    pins = [Requirement(line) for line in _lines("requirements.txt")]
    for one in [*dependencies, *torch]:
        of_this = [pin for pin in pins if pin.name == one.name]
        assert of_this, one.name
        for pin in of_this:
            (exact,) = pin.specifier
            assert one.specifier.contains(exact.version), (one, exact)


def test_it_can_be_installed_beside_what_is_here():
    for text in PROJECT["dependencies"]:
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate():
            assert one.specifier.contains(metadata.version(one.name)), one


def _lines(file: str) -> list[str]:
    lines = [
        line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()
    ]
    return [line for line in lines if line]
