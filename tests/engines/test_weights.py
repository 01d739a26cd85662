"""Weights as one safetensors file: both engines read it as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import torch_ref
from parity.convert.files import Checkpoint
from parity.convert.layouts import OURS
from parity.convert.writing import write
from recipe import initial_weights
from recipe.state_dict import COUNTER, shapes
from recipe.system import integrity
from recipe.system.errors import UserError
from recipe.training import weights
from recipe.training.description import Inference
from tests.parity.helpers import describe

DESCRIPTION = describe("resnet20", width=4)


def arrays() -> dict[str, np.ndarray]:
    """The tensors of a small network that has seen a little."""
    wanted = shapes(DESCRIPTION)
    rng = np.random.default_rng(0)
    statistics = {
        name: rng.uniform(0.5, 1.5, shape).astype(np.float32)
        for name, shape in wanted.items()
        if "running" in name
    }
    counters = {name: np.asarray(7, np.int64) for name in wanted if name.endswith(COUNTER)}
    params = {n: shape for n, shape in wanted.items() if n not in statistics | counters}
    drawn = {name: np.asarray(a) for name, a in initial_weights.draw(1, params).items()}
    return {name: (drawn | statistics | counters)[name] for name in wanted}


def write_weights(path: Path, model: dict[str, np.ndarray], **config: Any) -> Path:
    record = {"model": json.loads(DESCRIPTION.to_json())} | ({"config": config} if config else {})
    write(path, Checkpoint(record, model, None, "torch", OURS), "safetensors", OURS)
    return path


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in a folder with what else a hub has."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("a card")
    return write_weights(folder / "model.safetensors", arrays(), precision="bf16", data={"holdout": 9})


def test_the_file_and_its_folder_are_the_same_network_in_both_engines(engine: Any, released: Path):
    images = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    inference = Inference("f64", 5)
    description, network = engine.load(str(released), inference)
    assert description == DESCRIPTION
    assert network.held_out == 9
    logits = network.logits(images)
    np.testing.assert_array_equal(engine.load(str(released.parent), inference)[1].logits(images), logits)
    np.testing.assert_allclose(
        logits, torch_ref.load(str(released), inference)[1].logits(images), rtol=0, atol=1e-12
    )
    assert engine.load(str(released), Inference("auto", 5))[1].precision == "bf16"


def test_every_tensor_arrives_with_its_bytes(released: Path):
    _, found = weights.read(released)
    expected = arrays()
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])
        assert array.flags.writeable


def test_counters_may_be_absent(engine: Any, tmp_path: Path):
    without = {name: array for name, array in arrays().items() if not name.endswith(COUNTER)}
    path = write_weights(tmp_path / "a.safetensors", without)
    assert engine.load(str(path))[0] == DESCRIPTION


def test_bfloat16_is_widened_exactly(engine: Any, tmp_path: Path):
    model = {
        name: array.astype(ml_dtypes.bfloat16) if array.dtype == np.float32 else array
        for name, array in arrays().items()
    }
    path = write_weights(tmp_path / "a.safetensors", model)
    _, found = weights.read(path)
    for name, array in found.items():
        np.testing.assert_array_equal(array, model[name].astype(array.dtype))
    assert engine.load(str(path))[0] == DESCRIPTION


def test_damage_is_found(engine: Any, released: Path, tmp_path: Path):
    content = bytearray(released.read_bytes())
    content[-5] ^= 1
    flipped = tmp_path / "a.safetensors"
    flipped.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.safetensors is damaged: not the SHA-256"):
        engine.load(str(flipped))
    flipped.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"a\.safetensors is not a readable checkpoint"):
        engine.load(str(flipped))
    flipped.write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.safetensors is not a readable checkpoint"):
        engine.load(str(flipped))


def test_a_file_of_another_project_is_to_be_converted(engine: Any, tmp_path: Path):
    safetensors.torch.save_file({"fc.weight": torch.zeros(3, 2)}, tmp_path / "theirs.safetensors")
    for place in (tmp_path, tmp_path / "theirs.safetensors"):
        with pytest.raises(UserError, match=r"convert it first: python -m parity convert \S+theirs\.safet"):
            engine.load(str(place))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"linear.bias": np.zeros(9, np.float32)}, r"linear.bias has shape \(9,\) instead of \(10,\)"),
        ({"bn1.bias": np.full(4, np.nan, np.float32)}, "NaN or infinity in bn1.bias"),
        ({"bn1.scale": np.zeros(4, np.float32)}, "unexpected bn1.scale"),
        ({"linear.bias": np.zeros(10, np.complex64)}, "linear.bias has the dtype C64"),
    ],
)
def test_what_is_no_such_network_is_refused(
    engine: Any, tmp_path: Path, change: dict[str, np.ndarray], message: str
):
    path = tmp_path / "a.safetensors"
    model = arrays() | change
    sealed = _sealed(model)
    safetensors.numpy.save_file(model, path, {"record": json.dumps(sealed)})
    with pytest.raises(UserError, match=message):
        engine.load(str(path))


def test_the_hubs_cache_is_a_folder_with_weights(engine: Any, released: Path, tmp_path: Path):
    (tmp_path / "blobs").mkdir()
    shutil.copy(released, tmp_path / "blobs/c0ffee")
    for revision in ("0ab1", "0ab2"):
        assert revision == "0ab1" or engine.load(str(tmp_path))[0] == DESCRIPTION
        (tmp_path / "snapshots" / revision).mkdir(parents=True)
        (tmp_path / "snapshots" / revision / "model.safetensors").symlink_to(tmp_path / "blobs/c0ffee")
    with pytest.raises(UserError, match=r"holds 2 files of weights: name one \(snapshots/0ab1/model\.safet"):
        engine.load(str(tmp_path))


def test_of_several_files_none_is_chosen(engine: Any, released: Path, tmp_path: Path):
    for name in "ab":
        shutil.copy(released, tmp_path / f"{name}.safetensors")
    with pytest.raises(UserError, match=r"holds 2 files of weights: name one \(a.safetensors, b.safetensors"):
        engine.load(str(tmp_path))


def _sealed(model: dict[str, np.ndarray]) -> dict[str, Any]:
    digests = {
        f"model.{name}": integrity.digest(array.dtype.name, array.shape, array.tobytes())
        for name, array in model.items()
    }
    return integrity.seal({"model": json.loads(DESCRIPTION.to_json())}, digests)
