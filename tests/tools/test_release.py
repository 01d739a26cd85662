"""A run's release: what is in it, that it can be used, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import flax_resnet
import torch_ref
from recipe import commands, weights
from recipe.data import Dataset
from recipe.training import checkpoints
from recipe.training.description import Inference, describe_run
from tools import release


@pytest.fixture
def workdir(config: Any, data: Dataset, tmp_path: Path) -> Path:
    """A finished run of PyTorch's."""
    config.engine, config.name = "torch", "tiny"
    cifar = dataclasses.replace(data, name="cifar10")
    config.data.name = "cifar10"
    run = describe_run(config, cifar, tmp_path / "run")
    assert commands.train(torch_ref, run, cifar, "") == 0
    return run.workdir


def main(*arguments: object, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a release that fails prints."""
    assert release.main([*map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_release_is_the_last_state_and_says_how_good_it_is(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "dist"
    assert release.main([str(workdir), f"--out={out}"]) == 0
    folder = out / "tiny"
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "SHA256SUMS", "config.json", "model.safetensors",
    }  # fmt: skip
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    assert weights.bundled(folder) == folder

    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    inference = Inference("f64", 3)
    latest = checkpoints.newest(workdir / "checkpoints/latest", ".pt")
    expected = torch_ref.load(str(latest), inference)[1].logits(images)
    np.testing.assert_array_equal(torch_ref.load(str(folder), inference)[1].logits(images), expected)
    found = flax_resnet.load(str(folder), inference)[1].logits(images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)

    measured = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": round(measured["test_acc"], 4)}]
    assert result["dataset"] == {"name": "CIFAR-10", "type": "uoft-cs/cifar10", "split": "test"}
    assert {"license", "tags", "datasets", "metrics"} <= head.keys()
    assert f"**Accuracy {measured['test_acc']:.4f}**" in card
    assert "red, green, blue" in card

    assert "is there already" in main(workdir, f"--out={out}", capsys=capsys)
    assert release.main([str(workdir), f"--out={out}", "--name=other"]) == 0
    assert (out / "other/README.md").read_text(encoding="utf-8").count("# other: resnet20") == 1


def test_what_is_no_finished_run_of_a_size_is_refused(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "dist"
    with monkeypatch.context() as patch:
        patch.setattr(release, "MOST_BYTES", 1000)
        assert "the most is 0 MB" in main(workdir, f"--out={out}", capsys=capsys)
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert "has no record of how accurate" in main(workdir, f"--out={out}", capsys=capsys)
    unfinished = json.loads(lines[-1]) | {"epoch": 1}
    (workdir / "metrics.jsonl").write_text(json.dumps(unfinished) + "\n")
    assert "is at epoch 1 of 2: let it end first" in main(workdir, f"--out={out}", capsys=capsys)
    shutil.rmtree(workdir / "checkpoints")
    assert "there is no run in" in main(workdir, f"--out={out}", capsys=capsys)
    assert "there is no run in" in main(tmp_path / "nowhere", f"--out={out}", capsys=capsys)
    assert not (out / "tiny").exists()
