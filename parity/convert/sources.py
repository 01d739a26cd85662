"""Which files the weights of a SRC are in: one, that of a downloaded folder, or an index and its shards."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from recipe.system import json_values
from recipe.system.errors import UserError
from recipe.system.terminal import printable, shown

SUFFIXES = {".pt": "torch", ".pth": "torch", ".th": "torch", ".safetensors": "safetensors"}
_INDEX = re.compile(r"(.+)\.index(\.\w+)?\.json")  # the name of a list of shards, with a variant such as fp16
_READ_ONLY = {".bin": "torch", ".ckpt": "torch"}  # of transformers and Lightning
_OTHERS = (".msgpack", ".h5", ".npz")  # not read here; what to do about them says parity.convert.strangers
_ORBAX = ("record", "_CHECKPOINT_METADATA", "_METADATA")  # one of them is in each of its folders
_SHARD = re.compile(r"(.+)-0*(\d{1,9})-of-0*(\d{1,9})(\.\w+)")  # model-00001-of-00002.safetensors
# what a training run of transformers leaves beside the weights
_NO_WEIGHTS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?)\.\w+")
_LISTED = 8  # files in a message
_LONGEST_NAME = 255  # bytes that a file system takes


def locate(path: Path) -> Path:
    """The file of a SRC that is to be read, or the orbax folder.

    Args:
      path: what there is. Of a folder it is the one weights file or index in it; the cache of the Hugging
        Face hub has its files in snapshots/<revision>.

    Returns:
      a file or a folder. A folder without any weights is returned as it is.

    Raises:
      UserError: if a folder holds several sets of weights, or the path is one shard of several, or was
        written by torch.distributed.checkpoint.
    """
    if path.is_file():
        _refuse_distributed(path, path.parent)
        _refuse_shard(path)
        return path
    if not path.is_dir():
        raise UserError(f"{path} is neither a file nor a folder: a checkpoint in a pipe is not read")
    if any((path / name).exists() for name in _ORBAX):
        return path
    if (path / "snapshots").is_dir():
        revisions = sorted(entry for entry in (path / "snapshots").iterdir() if entry.is_dir())
        if len(revisions) == 1:
            return locate(revisions[0])
        if revisions:
            raise UserError(f"{path} has {len(revisions)} revisions: name one, {_listed(revisions)}")
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    indices = [file for file in files if is_index(file)]
    in_shards = {shard.name for index in indices for shard in shards(index)}
    weights = [
        file
        for file in files
        if file.suffix in SUFFIXES | _READ_ONLY
        and file.name not in in_shards
        and not file.name.startswith(".")
        and not _NO_WEIGHTS.fullmatch(file.name)
    ]
    found = indices + weights
    if found and (len(found) == 1 or all(_SHARD.fullmatch(file.name) for file in found)):
        _refuse_shard(found[0])
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path} holds {len(found)} sets of weights: name one, {_listed(found)}")
    for file in files:
        _refuse_distributed(file, path)
    return next((file for file in files if file.suffix in _OTHERS), path)


def form_of(path: Path) -> str:
    """The form that a file's name stands for: safetensors, else torch, also for an unknown suffix."""
    match = _INDEX.fullmatch(path.name)
    return (SUFFIXES | _READ_ONLY).get(Path(match[1] if match else path.name).suffix, "torch")


def is_index(path: Path) -> bool:
    """Whether a file's name is that of a list of shards."""
    return bool(_INDEX.fullmatch(path.name))


def shards(index: Path) -> list[Path]:
    """The files that an index lists, each once.

    Raises:
      UserError: if it is no index, or a file that it lists is missing or not beside it.
    """
    return [index.with_name(name) for name in sorted(set(weight_map(index).values()))]


def weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, as `shards`."""
    try:
        content: Any = json_values.read(index)
    except ValueError as error:
        raise UserError(f"{index}, which should list shards, is not readable: {error}") from error
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files:
        raise UserError(f"{index} lists no shards: it has no weight_map")
    for name in files.values():
        if not _names_file(name):
            raise UserError(f"{index}: a shard must be a file beside it, not {shown(name)}")
    missing = sorted(name for name in set(files.values()) if not index.with_name(name).is_file())
    if missing:
        raise UserError(
            f"{index} is the index of a sharded checkpoint, of whose {len(set(files.values()))} files "
            f"{len(missing)} are missing: download {printable(', '.join(missing[:_LISTED]))} as well"
        )
    return files


def _names_file(name: Any) -> bool:
    """Whether it can be the name of a file, without a folder."""
    if not isinstance(name, str) or not name or Path(name).name != name or "\0" in name:
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME


def _refuse_distributed(file: Path, folder: Path) -> None:
    """Raise a `UserError` for what torch.distributed.checkpoint writes: .metadata and __0_0.distcp."""
    if file.suffix == ".distcp":
        where = shlex.quote(str(folder))
        raise UserError(
            f"{folder} is a checkpoint of torch.distributed.checkpoint (.distcp): make one file of it with "
            f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {where} FILE.pth and take it"
        )


def _refuse_shard(path: Path) -> None:
    """Raise a `UserError` for one file of a sharded checkpoint: its tensors are no whole network."""
    match = _SHARD.fullmatch(path.name)
    if match and int(match[3]) > 1:
        stem, _, variant = match[1].partition(".")
        index = path.with_name(f"{stem}{match[4]}.index{'.' if variant else ''}{variant}.json")
        way = f"take {index}" if index.is_file() else f"download all of them and {index.name}, and take that"
        raise UserError(f"{path} is a shard, one of {int(match[3])} files of a sharded checkpoint: {way}")


def _listed(paths: list[Path]) -> str:
    more = ", …" if len(paths) > _LISTED else ""
    return printable(" or ".join(str(path) for path in paths[:_LISTED])) + more
