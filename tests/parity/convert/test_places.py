"""Where the network lies in another project's file, and what files are that hold none."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parity.convert.files import read
from parity.convert.layouts import LAYOUTS
from parity.convert.state_dicts import wanted_shapes
from parity.convert.strangers import check_kind
from parity.convert.wrappers import unwrap, wrap
from recipe.system.errors import UserError
from tests.parity.helpers import describe, random_arrays


def tensors(layout: str = "kuangliu", arch: str = "resnet18") -> dict[str, torch.Tensor]:
    shapes = wanted_shapes(describe(arch, LAYOUTS[layout].stem))
    arrays = random_arrays(shapes, np.float32)
    return {LAYOUTS[layout].theirs(name): torch.from_numpy(array) for name, array in arrays.items()}


TENSORS = tensors()
NETWORK = {name: tensor.numpy() for name, tensor in TENSORS.items()}
keys = st.lists(st.text("abmn_", min_size=1, max_size=6), max_size=3)
foreign = st.dictionaries(st.sampled_from(["n_averaged", "queue", "criterion.weight"]), st.just(np.ones(2)))


@settings(max_examples=50, deadline=None)
@given(path=keys, prefix=keys, beside=foreign)
def test_a_network_is_found_anywhere_and_goes_back(
    path: list[str], prefix: list[str], beside: dict[str, Any]
):
    start = "".join(f"{part}." for part in prefix)
    content: dict[str, Any] = {start + name: tensor for name, tensor in NETWORK.items()} | beside
    for key in reversed(path):
        content = {key: content, "epoch": 3}
    found = unwrap(content)
    assert found.tensors.keys() == NETWORK.keys()
    assert all(found.tensors[name] is tensor for name, tensor in NETWORK.items())
    assert found.prefix == start
    assert all(any(name in lost for lost in found.lost) for name in beside)
    again = wrap(found.tensors, found.wrapper, found.prefix, {})
    for key in path:
        again = again[key]
    assert list(again) == [start + name for name in NETWORK]


@settings(max_examples=30, deadline=None)
@given(first=keys, second=keys)
def test_of_two_networks_none_is_chosen(first: list[str], second: list[str]):
    content: dict[str, Any] = {}
    for top, prefix in (("a", first), ("b", second)):
        content |= {".".join([top, *prefix, name]): tensor for name, tensor in NETWORK.items()}
    with pytest.raises(UserError, match="2 networks: say which with --weights="):
        unwrap(content)


@settings(max_examples=60, deadline=None)
@given(paths=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3), min_size=2, max_size=4))
def test_the_names_that_are_shown_are_taken_and_there_are_no_shorter_ones(paths: list[list[str]]):
    names = sorted({".".join(path) for path in paths})
    content: dict[str, Any] = {f"{name}.layer1.0.conv1.weight": np.full(1, i) for i, name in enumerate(names)}
    if len(names) < 2:
        return
    with pytest.raises(UserError, match=f"holds {len(names)} networks") as caught:
        unwrap(content)
    offered = re.findall(r"--weights=([\w.]+)", str(caught.value))
    for i, name in enumerate(offered):
        (taken,) = unwrap(content, name).tensors.values()
        assert taken == i  # in the order of the file
        for shorter in (name.rpartition(".")[0], name.partition(".")[2]):
            if shorter and shorter not in [*names, *offered]:
                with pytest.raises(UserError, match=r"unknown weights"):
                    unwrap(content, shorter)


def test_shown_names_are_short():
    nested = {"state_dict": {f"module.encoder_{w}.{k}": a for w in "qk" for k, a in NETWORK.items()}}
    with pytest.raises(UserError, match=r"--weights=encoder_q or --weights=encoder_k$"):
        unwrap(nested)


@pytest.mark.parametrize("left", [1, 2])
def test_what_is_left_of_a_network_counts_as_one(left: int):
    blocks = [name for name in NETWORK if name.startswith("layer")][:left]
    with pytest.raises(UserError, match="2 networks: say which with --weights=model or --weights=ema"):
        unwrap({"model": NETWORK, "ema": {name: NETWORK[name] for name in blocks}})


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(NETWORK)), how=st.sampled_from(["removed", "renamed", "of another shape"]),
    second=st.booleans(),
)  # fmt: skip
@example(name="layer1.0.conv1.weight", how="removed", second=True)
@example(name="layer1.0.conv1.weight", how="renamed", second=False)
def test_a_damaged_network_is_still_one_of_two(name: str, how: str, second: bool):
    damaged = {k: t for k, t in NETWORK.items() if k != name}
    if how != "removed":
        damaged[name if how == "of another shape" else f"{name}_"] = np.zeros(7)
    both = {"model": NETWORK, "model_ema": damaged} if second else {"model": damaged, "ema": NETWORK}
    with pytest.raises(UserError, match="2 networks: say which with --weights="):
        unwrap(both)
    flat = {f"{top}.{key}": tensor for top, part in both.items() for key, tensor in part.items()}
    with pytest.raises(UserError, match="2 networks: say which with --weights="):
        unwrap(flat)


def test_a_projector_of_linear_layers_is_no_second_network():
    """PatrickHua/SimSiam calls its projector's layers as a ResNet calls its stages."""
    leaves = ("0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    projector = {f"projector.layer{n}.{leaf}": np.ones(2) for n in (1, 2, 3) for leaf in leaves}
    found = unwrap({f"backbone.{name}": tensor for name, tensor in NETWORK.items()} | projector)
    assert (found.prefix, found.tensors.keys()) == ("backbone.", NETWORK.keys())
    assert any("projector" in name for name in found.lost)


@pytest.mark.parametrize("layout", ["weiaicunzai", "transformers", "openmmlab"])
def test_dialects_are_found_below_prefixes_too(layout: str):
    network = {name: tensor.numpy() for name, tensor in tensors(layout).items()}
    found = unwrap({"state_dict": {f"module.{k}": t for k, t in network.items()}, "epoch": 3})
    assert (found.prefix, found.tensors.keys()) == ("module.", network.keys())


@pytest.mark.parametrize("beside", ["train_acc.tp", "loss_fn.weight", "num_updates", "val_metrics.total"])
def test_what_computes_no_logits_is_left_out(beside: str):
    found = unwrap(NETWORK | {beside: np.ones(2)})
    assert (found.tensors.keys(), found.lost) == (NETWORK.keys(), [beside])


@pytest.mark.parametrize(
    "part", ["temperature", "attention.weight", "layer5.0.conv1.weight", "se.fc1.weight"]
)
def test_what_may_be_a_part_of_the_network_is_an_error(part: str, tmp_path: Path):
    torch.save(TENSORS | {part: torch.ones(2)}, tmp_path / "more.pth")
    with pytest.raises(UserError):
        read(tmp_path / "more.pth")


def test_the_named_network_is_taken(tmp_path: Path):
    ema = {"n_averaged": torch.tensor(5)} | {f"module.{k}": t + 1 for k, t in TENSORS.items()}
    torch.save({"model": TENSORS, "model_ema": ema}, tmp_path / "both.pth")
    with pytest.raises(UserError, match=r"--weights=model or --weights=model_ema$"):
        read(tmp_path / "both.pth")
    for name, more in (("model", 0), ("model_ema", 1)):
        found = read(tmp_path / "both.pth", weights=name)
        np.testing.assert_array_equal(found.model["linear.bias"], TENSORS["linear.bias"].numpy() + more)
    moco = {f"module.encoder_{w}.{k}": a for w in "qk" for k, a in NETWORK.items()}
    assert unwrap(moco, "encoder_k").prefix == "module.encoder_k."


def test_averaged_counters_are_left_out_and_arrays_are_read(tmp_path: Path):
    averaged = {k: t / 2 if t.dtype == torch.int64 else t for k, t in TENSORS.items()}
    torch.save(averaged, tmp_path / "average.pth")
    found = read(tmp_path / "average.pth")
    assert not [name for name in found.model if name.endswith("num_batches_tracked")]
    assert "num_batches_tracked" in found.lost[0]
    torch.save({k: t.numpy() for k, t in TENSORS.items()}, tmp_path / "arrays.pth")
    arrays = read(tmp_path / "arrays.pth").model
    assert all(np.array_equal(arrays[k], t.numpy()) for k, t in TENSORS.items())


def test_a_bottlenecks_stride_is_assumed_aloud(tmp_path: Path):
    torch.save(tensors("torchvision", "resnet50"), tmp_path / "50.pth")
    assert "3×3" in read(tmp_path / "50.pth").assumed
    body = {k: t for k, t in tensors("torchvision").items() if not k.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    with pytest.raises(UserError, match="no classifier"):
        read(tmp_path / "body.pth")


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html>", "HTML page"), (b"", "is empty"), (b"\x81\xa6params\x81", "msgpack"),
        (pickle.dumps({"a": 1}), "pickle"), (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"BZh91AY", "compressed: unpack"),
        (b"\0" * 257 + b"ustar\0", "a tar archive: unpack"), (b"\x08\x08\x12\x07pytorch", "an ONNX file"),
        (b"\x1c\0\0\0TFL3", "a TFLite file"), (b"\x89PNG\r\n", "a picture"),
        (b'{\n "architecture": 1}', "JSON"),
        (zipped("model.weights.h5"), "a Keras file"),
        (zipped("a.txt"), "zip file of 1 files, none of torch.save"),
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_called_what_it_is(content: bytes, what: str, tmp_path: Path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(UserError, match=what):
        check_kind(tmp_path / "file.pth")


@pytest.mark.parametrize("length", [0xA188, 0xB008, 0x8890])
def test_safetensors_are_nothing_else_whatever_the_length_of_their_header(length: int, tmp_path: Path):
    """Which is their first bytes: those of msgpack, say."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}".ljust(length))
    check_kind(path)


def _without_statistics() -> dict[str, torch.Tensor]:
    return {k: t for k, t in TENSORS.items() if "running" not in k and "batches" not in k}


def _reparametrised() -> dict[str, torch.Tensor]:
    names = {"layer1.0.conv1.weight": "layer1.0.conv1.weight_v"}
    return {names.get(k, k): t for k, t in TENSORS.items()} | {"layer1.0.conv1.weight_g": torch.ones(2)}


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (_without_statistics(), "keep no running statistics (track_running_stats=False)"),
        (_reparametrised(), "its weights are reparametrised"),
        ({**TENSORS, "conv1.0.weight": torch.ones(2, 3, 3, 3)}, "its stem is deep"),
        ({**TENSORS, "conv1.weight": TENSORS["conv1.weight"][:, :1]}, "takes 1 channels"),
        ({k: t for k, t in TENSORS.items() if k[:6] != "linear"}, "it has no classifier (fc or linear)"),
    ],
)
def test_what_is_missing_or_other_is_one_reason_with_its_place(
    network: dict[str, torch.Tensor], reason: str, tmp_path: Path
):
    torch.save({"state_dict": {f"backbone.{k}": t for k, t in network.items()}}, tmp_path / "a.pth")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "a.pth")
    assert str(caught.value).startswith(f"{tmp_path / 'a.pth'}: the network under state_dict.backbone: ")
    assert reason in str(caught.value)
