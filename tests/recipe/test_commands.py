"""Predictions where some of the images can't be read, with a network that only knows colours."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recipe import commands
from recipe.architectures import ModelDescription
from recipe.output import plots
from recipe.system.errors import UserError
from recipe.training.description import Inference


class Colours:
    """An engine whose network tells red, green and blue."""

    def load(self, path: str, inference: Inference) -> tuple[Any, Any]:
        names = ("red", "green", "blue")
        description = ModelDescription("resnet20", "cifar", 4, names, (0.5,) * 3, (0.25,) * 3, 32, "none")
        return description, SimpleNamespace(logits=lambda images: images.mean(axis=(1, 2)) / 25)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures, the second damaged, and a HEIC file."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for name, colour in {"a": "red", "c": "blue", "d": "lime"}.items():
        Image.new("RGB", (40, 50), colour).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "e.heic").touch()
    return folder


def predict(*paths: str, output: str = "json") -> int:
    engine: Any = Colours()
    return commands.predict(engine, Inference(), "net", paths, output, Path("out"))


def test_a_damaged_image_costs_its_own_row(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert predict("in") == 1
    out, err = capsys.readouterr()
    rows = json.loads(out)
    assert [row["image"] for row in rows] == ["in/a.png", "in/b.png", "in/c.png", "in/d.png"]
    assert [row["top"][0]["class"] for row in rows if row["top"]] == ["red", "blue", "green"]
    assert rows[1].keys() == {"image", "top", "error"}
    assert err.splitlines() == [
        "left out 1 image that Pillow can't read: 1 HEIC (in/e.heic); convert it to JPEG or PNG",
        f"error: can't read the image in/b.png: {rows[1]['error']}",
        "Picture: out/predictions.png",
    ]
    assert predict("in", output="csv") == 1
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["image"] for row in table if row["error"]] == ["in/b.png"]
    assert [row["class"] for row in table if row["rank"] == "1"] == ["red", "blue", "green"]
    assert predict("in", output="table") == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["in/a.png", "red"], ["in/b.png", "error:"], ["in/c.png", "blue"], ["in/d.png", "green"],
    ]  # fmt: skip


def test_captions_stay_with_their_pictures(folder: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: dict[str, Any] = {}

    def draw(pictures: list[np.ndarray], captions: list[str], path: Path, **others: Any) -> None:
        drawn.update(colours=[p[0, 0].tolist() for p in pictures], captions=captions, **others)

    monkeypatch.setattr(plots, "predictions", draw)
    monkeypatch.setattr(plots, "MOST_PREDICTIONS", 2)
    predict("in")
    assert drawn["colours"] == [[255, 0, 0], [0, 0, 255]]
    assert [caption.split()[:2] for caption in drawn["captions"]] == [["a.png", "red"], ["c.png", "blue"]]
    assert drawn["more"] == 1


def test_if_no_image_can_be_read_nothing_is_printed_or_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(UserError, match=r"^can't read the image in/b\.png: "):
        predict("in/b.png")
    with pytest.raises(
        UserError, match=r"^none of the 2 images can be read: can't read the image in/e\.heic"
    ):
        predict("in/e.heic", "in/b.png")
    assert capsys.readouterr() == ("", "")
    assert not Path("out").exists()


def test_without_damage_all_is_well(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert predict("in/a.png", "in/c.png") == 0
    assert [row["top"][0]["class"] for row in json.loads(capsys.readouterr().out)] == ["red", "blue"]
