"""CIFAR-10 in pieces, and out of them again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recipe.system.errors import UserError
from tools.gpu import data, pack
from tools.gpu.__main__ import main

FILES = {"dataset_info.json": b"{}", "features.json": b"{}" * 40, "label.labels.txt": b"", "train-00000": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with something like a prepared CIFAR-10, of 3,082 bytes."""
    version = tmp_path / "tfds" / "cifar10" / "3.0.2"
    version.mkdir(parents=True)
    for name, content in FILES.items():
        (version / name).write_bytes(content or np.random.default_rng(len(name)).bytes(1500))
    return tmp_path / "tfds"


@pytest.mark.parametrize("most", [5000, 3082, 1541, 1100, 7])
def test_what_is_packed_comes_out_again(folder: Path, tmp_path: Path, most: int):
    *pieces, manifest = pack.pack(folder, tmp_path / "packed", most)
    assert all(piece.stat().st_size <= most for piece in pieces)
    assert len(pieces) == -(-3082 // most)
    assert manifest.name == pack.MANIFEST
    made = pack.unpack(tmp_path / "packed", tmp_path / "out")
    assert made == tmp_path / "out" / "cifar10" / "3.0.2"
    source = folder / "cifar10" / "3.0.2"
    found, expected = ({p.name: p.read_bytes() for p in place.iterdir()} for place in (made, source))
    assert found == expected


def test_the_whole_of_cifar_10_is_three_pieces():
    shards = 119_799_808 + 24_051_712 + 1194 + 963 + 60
    assert -(-shards // pack.MOST_BYTES) == 3


def test_a_piece_that_is_missing_or_damaged_is_named_and_nothing_is_made(folder: Path, tmp_path: Path):
    pack.pack(folder, tmp_path / "packed", 1100)
    second = tmp_path / "packed" / "cifar10.2"
    content = second.read_bytes()
    second.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"cifar10\.2 is damaged: .*copy it again"):
        pack.unpack(tmp_path / "packed", tmp_path / "out")
    second.unlink()
    with pytest.raises(UserError, match=r"cifar10\.2 is missing: CIFAR-10 is in 3 pieces"):
        pack.unpack(tmp_path / "packed", tmp_path / "out")
    assert not (tmp_path / "out" / "cifar10" / "3.0.2").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("version", "../3.0.2"), ("format", 2), ("files", [{"name": "../../x", "bytes": 1, "sha256": ""}]),
     ("pieces", None), ("files", [{"bytes": 1, "sha256": ""}])],
)  # fmt: skip
def test_a_manifest_that_would_write_elsewhere_is_refused(
    folder: Path, tmp_path: Path, key: str, value: object
):
    *_, manifest = pack.pack(folder, tmp_path / "packed", 1100)
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(UserError, match=r"is no manifest of `python -m tools\.gpu pack`"):
        pack.unpack(tmp_path / "packed", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_other_files_is_refused(folder: Path, tmp_path: Path):
    *_, manifest = pack.pack(folder, tmp_path / "packed", 1100)
    content = json.loads(manifest.read_text())
    content["files"][0]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"does not fit its pieces \(dataset_info\.json\)"):
        pack.unpack(tmp_path / "packed", tmp_path / "out")
    assert not (tmp_path / "out" / "cifar10" / "3.0.2").exists()


def test_a_named_folder_comes_before_the_pieces(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=r"^there is no CIFAR-10: .*tools\.gpu pack TFDS_FOLDER"):
        data.find(tmp_path / "packed", tmp_path / "out")
    assert main(["pack", str(folder), str(tmp_path / "packed")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("cifar10.1: 0.0 MB")
    assert data.find(tmp_path / "packed", tmp_path / "out") == tmp_path / "out"
    kept = next((tmp_path / "out" / "cifar10" / "3.0.2").iterdir()).stat().st_mtime_ns
    assert data.find(tmp_path / "packed", tmp_path / "out") == tmp_path / "out"  # as it is
    assert next((tmp_path / "out" / "cifar10" / "3.0.2").iterdir()).stat().st_mtime_ns == kept
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert data.find(tmp_path / "packed", tmp_path / "out") == folder


def test_a_folder_without_cifar_10_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["pack", str(tmp_path), str(tmp_path / "packed")]) == 2
    assert "holds no prepared CIFAR-10" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
