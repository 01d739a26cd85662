"""Readers of checkpoints: this project's in each form, and strangers'."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import flax_resnet.checkpoint
import parity.convert.convert
import torch_ref.checkpoint
from flax_resnet.naming import by_dotted_path
from parity.convert.files import read
from parity.convert.inspect import inspect
from parity.convert.layouts import LAYOUTS
from recipe.system import integrity
from recipe.system.errors import UserError
from recipe.training import checkpoints
from tests.parity.helpers import describe, make_checkpoint, save
from tests.stress.inputs.reader import Reader, fingerprint


def _make_ours(form: str, name: str) -> Any:
    return lambda folder: save(folder / name, make_checkpoint(describe(), step=7), form)


def _read_jax(folder: Path) -> str:
    record, tree = flax_resnet.checkpoint.read(folder / "7")
    return fingerprint([record, by_dotted_path(tree), checkpoints.progressed(record, folder)])


def _read_torch(folder: Path) -> str:
    record, tree = torch_ref.checkpoint.read(folder / "7.pt")
    return fingerprint([record, tree, checkpoints.progressed(record, folder)])


def _inspect(name: str) -> Any:
    """Read a checkpoint of any kind, and what is said about it."""

    def read_it(folder: Path) -> tuple[str, str]:
        found, text = read(folder / name), inspect(folder / name)
        assert all(line.isprintable() for line in text.splitlines()), text
        return fingerprint([found.record, found.model, found.momentum]), text.replace(str(folder), "")

    return read_it


def _state_dict(layout: str = "kuangliu", stem: str = "cifar") -> dict[str, torch.Tensor]:
    model = make_checkpoint(describe("resnet18", stem)).model
    return {LAYOUTS[layout].theirs(name): torch.from_numpy(array.copy()) for name, array in model.items()}


def _make_theirs(folder: Path) -> None:
    torch.save(
        {"net": _state_dict(), "acc": 93.1, "epoch": 3, "args": ["a", {"lr": 0.1}]}, folder / "ckpt.pth"
    )


def _make_legacy(folder: Path) -> None:
    content = {
        "state_dict": _state_dict("torchvision", "imagenet"),
        "arch": "resnet18",
        "best": torch.tensor(0.9),
    }
    torch.save(content, folder / "model.th", _use_new_zipfile_serialization=False)


def _make_timm(folder: Path) -> None:
    tensors = _state_dict("torchvision", "imagenet")
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    names = [f"class {i}" for i in range(10)]
    config = {
        "architecture": "resnet18", "num_classes": 10,
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.25] * 3, "label_names": names,
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    preprocessor = {"crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "image_mean": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")


def _make_shards(folder: Path) -> None:
    tensors = _state_dict("torchvision", "imagenet")
    names, index = list(tensors), {}
    for number, part in enumerate((names[:50], names[50:]), 1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        safetensors.torch.save_file({name: tensors[name] for name in part}, folder / shard)
        index |= dict.fromkeys(part, shard)
    content = {"metadata": {"total_size": 1}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def _convert(folder: Path) -> str:
    """Convert a stranger's file; what is refused leaves nothing."""
    destination = folder / "converted.safetensors"
    destination.unlink(missing_ok=True)
    before = set(folder.iterdir())
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            parity.convert.convert.convert(folder / "ckpt.pth", destination, check=False)
    except UserError:
        assert set(folder.iterdir()) == before, "something is left half-written"
        raise
    return fingerprint(read(destination).model)


def _make_record(folder: Path) -> None:
    record = make_checkpoint(describe(), step=7).record
    record["source"] = {
        "layout": "kuangliu",
        "form": "torch",
        "wrapper": "net",
        "prefix": "",
        "fields": {"a": 1},
    }
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


def _read_record(folder: Path) -> tuple[str, str]:
    """A record that somebody has sealed, whatever it says."""
    whole = make_checkpoint(describe(), step=7)
    tensors = {"model": {name: torch.from_numpy(array) for name, array in whole.model.items()}}
    digests = {
        f"model.{name}": torch_ref.checkpoint.digest(tensor) for name, tensor in tensors["model"].items()
    }
    try:
        sealed = json.dumps(integrity.seal(json.loads((folder / "record.json").read_bytes()), digests))
    except Exception as error:  # such damage that nothing can be made of it
        raise UserError("no record") from error
    torch_ref.checkpoint.save(folder / "7.pt", {**tensors, "record": sealed})
    return _inspect("7.pt")(folder)


READERS = (
    Reader("JAX checkpoint", _make_ours("jax", "7"), _read_jax, share=2),
    Reader("PyTorch checkpoint", _make_ours("torch", "7.pt"), _read_torch),
    Reader("safetensors checkpoint", _make_ours("safetensors", "7.safetensors"), _inspect("7.safetensors")),
    Reader("a record, sealed again", _make_record, _read_record, checked=False, nodes=False),
    Reader("a stranger's .pth", _make_theirs, _inspect("ckpt.pth"), checked=False),
    Reader("a stranger's .th of old", _make_legacy, _inspect("model.th"), checked=False),
    Reader("a stranger's safetensors, config.json", _make_timm, _inspect(""), checked=False),
    Reader("a stranger's shards", _make_shards, _inspect("model.safetensors.index.json"), checked=False),
    Reader("convert", _make_theirs, _convert, checked=False, files="ckpt.pth", share=0.5),
)
