"""Downloaded folders, indices and their shards."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from parity.__main__ import main
from parity.convert.files import read
from parity.convert.layouts import LAYOUTS
from parity.convert.sources import locate
from parity.convert.state_dicts import wanted_shapes
from recipe.system.errors import UserError
from tests.parity.helpers import describe, random_arrays

NETWORK = {
    LAYOUTS["akamaster"].theirs(name): torch.from_numpy(array)
    for name, array in random_arrays(wanted_shapes(describe()), np.float32).items()
}
INDEX = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}


def sharded(folder: Path, suffix: str, count: int = 3) -> Path:
    """Write the network in shards, and return their index."""
    stem = INDEX[suffix].partition(".")[0]
    listed = {}
    for number in range(count):
        file = f"{stem}-{number + 1:05}-of-{count:05}{suffix}"
        tensors = {name: NETWORK[name] for name in sorted(NETWORK)[number::count]}
        save(folder / file, tensors)
        listed |= dict.fromkeys(tensors, file)
    index = folder / INDEX[suffix]
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return index


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path, {"format": "pt"})
    else:
        torch.save(tensors, path)
    return path


def assert_network(path: Path) -> None:
    model = read(path, "akamaster").model
    assert model.keys() == wanted_shapes(describe()).keys()
    for name, tensor in NETWORK.items():
        np.testing.assert_array_equal(model[name], tensor.numpy())


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".ckpt", ".pth"])
def test_the_one_weights_file_of_a_folder_is_taken(suffix: str, tmp_path: Path):
    weights = save(tmp_path / f"model{suffix}", NETWORK)
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "README.md", ".hidden.pth"):
        (tmp_path / name).write_bytes(b"?")
    assert locate(tmp_path) == weights
    assert_network(tmp_path)


def test_a_folder_is_described_by_its_own_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save(tmp_path / "model.safetensors", NETWORK)
    (tmp_path / "config.json").write_text(
        '{"architecture": "resnet20", "pretrained_cfg": {"mean": [0, 0, 1]}}'
    )
    assert main(["inspect", str(tmp_path), "--layout=akamaster"]) == 0
    said = capsys.readouterr().out
    assert f"checkpoint:      {tmp_path / 'model.safetensors'}\n" in said
    assert "(0.0, 0.0, 1.0)\n" in said


def test_of_several_sets_of_weights_none_is_chosen(tmp_path: Path):
    save(tmp_path / "model.safetensors", NETWORK)
    save(tmp_path / "pytorch_model.bin", NETWORK)
    with pytest.raises(
        UserError, match=r"2 sets of weights: name one, .*/model.safetensors or .*model\.bin$"
    ):
        read(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    sharded(tmp_path, ".bin")
    with pytest.raises(
        UserError, match=r"2 sets of weights: name one, .*index\.json or .*/model.safetensors$"
    ):
        read(tmp_path)


def test_in_the_hubs_cache_the_one_revision_is_taken(tmp_path: Path):
    for number, revision in enumerate(("1a2b", "3c4d")):
        folder = tmp_path / "snapshots" / revision
        folder.mkdir(parents=True)
        (tmp_path / f"blob{number}").write_bytes(b"")
        (folder / "model.safetensors").symlink_to(tmp_path / f"blob{number}")
        if not number:
            assert locate(tmp_path) == folder / "model.safetensors"
    with pytest.raises(UserError, match=r"2 revisions: name one, .*1a2b or .*3c4d$"):
        locate(tmp_path)


@pytest.mark.parametrize("suffix", INDEX)
def test_shards_are_read_together(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    index = sharded(tmp_path, suffix)
    assert locate(tmp_path) == index
    assert_network(index)
    assert main(["inspect", str(tmp_path), "--layout=akamaster"]) == 0
    assert ", sharded: 3 files\n" in capsys.readouterr().out
    assert main(["convert", str(tmp_path), str(tmp_path / "one.pt"), "--layout=akamaster", "--no-check"]) == 0
    again = read(tmp_path / "one.pt").model
    assert all(np.array_equal(again[name], tensor.numpy()) for name, tensor in NETWORK.items())


@pytest.mark.parametrize("suffix", INDEX)
def test_shards_that_are_not_those_of_the_index_are_refused(suffix: str, tmp_path: Path):
    index = sharded(tmp_path, suffix)
    first, second, _ = sorted(tmp_path.glob(f"*-of-*{suffix}"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match=r"00001-of-00003.* does not hold the tensors that the index says"):
        read(tmp_path)
    save(first, {name: NETWORK[name] for name in sorted(NETWORK)[3::3]})
    with pytest.raises(UserError, match=r"\(1 differ, such as bn1\.bias\)"):
        read(index)
    first.write_bytes(content[:-100])
    with pytest.raises(UserError, match="00001-of-00003"):
        read(index)
    first.unlink()
    with pytest.raises(UserError, match=r"sharded checkpoint, of whose 3 files 1 are missing: .*00001-of"):
        read(index)
    index.unlink()
    with pytest.raises(
        UserError, match="a shard, one of 3 files of a sharded checkpoint: download all of them"
    ):
        read(tmp_path)


def test_a_lone_shard_is_called_one(tmp_path: Path):
    index = sharded(tmp_path, ".safetensors")
    with pytest.raises(UserError, match=f"a shard, one of 3 files of a sharded checkpoint: take {index}$"):
        read(tmp_path / "model-00002-of-00003.safetensors")
    alone = tmp_path / "alone"
    alone.mkdir()
    assert_network(save(alone / "model-00001-of-00001.safetensors", NETWORK))
    assert_network(alone)
    save(alone / "other-00001-of-00001.safetensors", NETWORK)
    with pytest.raises(UserError, match="2 sets of weights"):
        read(alone)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "lists no shards"), ({}, "lists no shards"), ({"weight_map": {}}, "lists no shards"),
        ({"weight_map": {"a": "../secret.pth"}}, "beside it"),
        ({"weight_map": {"a": "/etc/passwd"}}, "beside it"),
        ({"weight_map": {"a": ".."}}, "beside it|missing"), ({"weight_map": {"a": 3}}, "beside it"),
        ({"weight_map": {"a": ""}}, "beside it"), ({"weight_map": {"a": "b\0"}}, "beside it"),
        ({"weight_map": {"a": "x" * 256}}, "beside it"), ({"weight_map": {"a": "é" * 128}}, "beside it"),
        ({"weight_map": {"a": "\ud800"}}, "missing"),
        ({"weight_map": {"a": "\x1b[2J"}}, r"missing: download \\x1b"),
    ],
)  # fmt: skip
def test_an_index_from_a_stranger_is_checked(content: Any, reason: str, tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=reason):
        read(tmp_path)


def test_indexes_of_variants_are_read_and_their_shards_named(tmp_path: Path):
    index = sharded(tmp_path, ".safetensors")
    variant = index.with_name("model.safetensors.index.fp16.json")
    content = json.loads(index.read_text())
    for shard in set(content["weight_map"].values()):
        (tmp_path / shard).rename(tmp_path / shard.replace("model-", "model.fp16-"))
    files = {name: file.replace("model-", "model.fp16-") for name, file in content["weight_map"].items()}
    variant.write_text(json.dumps({"weight_map": files}))
    index.unlink()
    assert_network(variant)
    assert_network(tmp_path)
    with pytest.raises(UserError, match=f"a shard, one of 3 files of a sharded checkpoint: take {variant}$"):
        read(tmp_path / "model.fp16-00002-of-00003.safetensors")


def test_an_index_that_is_no_json_is_one_line(tmp_path: Path):
    (tmp_path / "model.safetensors.index.json").write_text("<html>")
    with pytest.raises(UserError, match="should list shards, is not readable: it is no JSON"):
        read(tmp_path)


def test_a_distributed_checkpoint_is_refused_with_a_command_that_works(tmp_path: Path):
    from torch.distributed.checkpoint import FileSystemWriter, save
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    folder = tmp_path / "a folder"
    save({"model": dict(NETWORK)}, storage_writer=FileSystemWriter(folder), no_dist=True)
    for path in (folder, *folder.glob("*.distcp")):
        with pytest.raises(
            UserError, match=r"torch\.distributed\.checkpoint .* dcp_to_torch '.*/a folder' FILE"
        ):
            read(path)
    dcp_to_torch_save(folder, tmp_path / "one.pth")
    assert_network(tmp_path / "one.pth")


def test_a_folder_with_nothing_but_flaxs_msgpack_is_told_so(tmp_path: Path):
    (tmp_path / "flax_model.msgpack").write_bytes(b"\x81\xa6params\x81")
    with pytest.raises(UserError, match="msgpack file, such as Flax writes"):
        read(tmp_path)


def test_a_checkpoint_in_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "model.pth")
    with pytest.raises(UserError, match=r"model\.pth is neither a file nor a folder"):
        read(tmp_path / "model.pth")
