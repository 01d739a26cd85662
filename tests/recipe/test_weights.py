"""The weights that come with the project: checked, and used where nobody names others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe import weights
from recipe.system.errors import Damaged
from recipe.training import weights as files_of_weights
from tests.engines.test_weights import arrays, write_weights

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
if {engine!r} == "jax":
    from tests.only_installed import for_jax
    for_jax()
from pathlib import Path
from recipe import cli, weights
weights.FOLDER = Path({folder!r})
sys.argv = ["main.py", "--mode=predict", "--output=json", *{arguments!r}]
sys.exit(cli.main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stand-in."""
    folder = tmp_path / "standin"
    folder.mkdir()
    file = write_weights(folder / "model.safetensors", arrays(), precision="bf16")
    (folder / weights.SUMS).write_text(f"{weights.sha256(file)}  {file.name}\n")
    return folder


def predict(folder: Path, where: Path, engine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(
        engine=engine,
        folder=str(folder),
        arguments=[*arguments, f"--config.engine={engine}", "--images=photo.png"],
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=where, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["jax", "torch"])
def test_they_predict_where_no_other_weights_are_named(engine: str, folder: Path, tmp_path: Path):
    """In JAX where PyTorch can't be imported."""
    where = tmp_path / "where"
    (where / "runs/r18/predict").mkdir(parents=True)  # which an earlier prediction left: it is no run
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(where / "photo.png")
    done = predict(folder, where, engine)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["top"][0]["class"].startswith("class ")
    assert done.stderr.splitlines()[0] == (
        f"There is no run in runs/r18: predicting by the weights that come with this, {folder}"
    )
    assert (where / "runs/r18/predict/predictions.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config=configs/r18.py:cpu",),
        ("--workdir=runs/r18",),
    ],
)
def test_a_run_that_is_named_and_not_there_is_an_error(
    arguments: tuple[str, ...], folder: Path, tmp_path: Path
):
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    done = predict(folder, tmp_path, "torch", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no checkpoint at runs/")


def test_damage_is_found(folder: Path):
    assert weights.bundled(folder) == folder
    assert weights.bundled(folder / "nowhere") is None
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match=r"model\.safetensors is not as it was released; install this again"):
        weights.bundled(folder)
    file.unlink()
    with pytest.raises(Damaged, match="not whole"):
        weights.bundled(folder)
    (folder / weights.SUMS).write_text("")
    with pytest.raises(Damaged, match="SHA256SUMS is not as it was released"):
        weights.bundled(folder)


@pytest.mark.skipif(not weights.FOLDER.exists(), reason="no weights come with it yet")
def test_what_comes_with_it_is_whole_and_small():
    folder = weights.bundled(weights.FOLDER)
    assert folder is not None
    record, _ = files_of_weights.read(folder / "model.safetensors")
    assert record["model"]["dataset"] == "cifar10"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
