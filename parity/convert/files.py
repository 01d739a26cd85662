"""Reading checkpoints of any form as named arrays.

JAX is imported for its folders only, and PyTorch not at all: its import takes more memory than most files.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from parity.convert import beside, guesses, sources, torch_reader
from parity.convert.layouts import LAYOUTS, OURS, Layout, named
from parity.convert.state_dicts import check_names, from_state_dict, wanted_shapes
from parity.convert.strangers import check_kind
from parity.convert.wrappers import Container, open_safetensors, unwrap
from recipe.architectures import ModelDescription
from recipe.state_dict import COUNTER, Arrays, is_param
from recipe.system import integrity, json_values, matching, torch_files
from recipe.system.errors import UserError
from recipe.system.terminal import printable
from recipe.training.checkpoints import check_record, described, progressed, unreadable


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A network's tensors, and what its file says about them."""

    record: dict[str, Any]  # see recipe.training.checkpoints; "source": how another project's file was built
    model: Arrays  # this project's PyTorch state dict: parameters, statistics, and counters if any
    momentum: Arrays | None  # by parameter; None where there is no run, {} before PyTorch's first step
    form: str  # jax | torch | safetensors
    layout: Layout
    lost: tuple[str, ...] = ()  # names of what else the file holds
    sealed: bool = True  # whether the file holds the SHA-256 of each tensor
    checksums: bool = False  # whether it is another project's with the CRC-32 of each
    shards: int = 0  # files that it was read from, where an index lists them

    @property
    def description(self) -> ModelDescription:
        """What the network is."""
        return described(self.record, Path("the checkpoint"))

    @property
    def came_from(self) -> Layout:
        """The layout of the file that it first was."""
        return LAYOUTS.get(self.record.get("source", {}).get("layout", ""), self.layout)

    def corrected(self, said: Mapping[str, Any]) -> Checkpoint:
        """The checkpoint with fields of its description in place of guesses; see `guesses.corrected`."""
        description = guesses.corrected(self.description, said, self.came_from.normalisation)
        return dataclasses.replace(self, record={**self.record, "model": json.loads(description.to_json())})

    @property
    def assumed(self) -> str:
        """What names and shapes can't tell about another project's network; "" where they tell all."""
        if self.sealed or self.description.architecture.block != "bottleneck":
            return ""
        return "a bottleneck's stride is in its 3×3 convolution, as in torchvision; the file can't say"

    @property
    def step(self) -> int | None:
        """Steps done, where there is a run."""
        return self.record["progress"]["step"] if "progress" in self.record else None


def read(
    path: Path, layout: str | None = None, weights: str | None = None, *, look_beside: bool = True
) -> Checkpoint:
    """Read a checkpoint of this project or another one.

    Args:
      path: an orbax folder, a PyTorch file or a safetensors file, an index of shards, or a folder with one of
        these; see `parity.convert.sources`.
      layout: a name in `parity.convert.layouts`, or None to find it out.
      weights: the entry or prefix to take, in a file that has several networks, such as "state_dict_ema".
      look_beside: whether files beside another project's weights describe them; see `parity.convert.beside`.

    Raises:
      UserError: if it is damaged, of an unknown kind or could be of several layouts, or if its tensors do not
        match its network's by name and shape.
    """
    if not path.exists():
        raise UserError(f"no checkpoint at {path}: there is no such file or folder")
    try:
        path = sources.locate(path)
        if path.is_dir():
            found = _from_jax(path, layout)
        elif sources.is_index(path):
            found = _from_shards(path, layout, weights)
        else:
            check_kind(path)
            if sources.form_of(path) == "safetensors":
                found = _from_safetensors(path, layout, weights)
            else:
                found = _from_torch(path, layout, weights)
        check_values(found)
        if look_beside and not found.sealed:
            found = _described_beside(found, path if path.is_dir() else path.parent)
        if weights and found.layout is OURS and found.sealed:
            raise UserError(f"it holds one set of weights, not under {weights}: leave out --weights")
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    return found


def check_values(checkpoint: Checkpoint) -> None:
    """Check that tensors are floats and finite, variances not negative, and counters int64 and not negative.

    Raises:
      UserError: naming every tensor that is not.
    """
    problems = []
    tensors = checkpoint.model | {f"momentum of {k}": a for k, a in (checkpoint.momentum or {}).items()}
    for name, array in tensors.items():
        name = checkpoint.layout.theirs(name)
        if name.endswith(COUNTER):
            if array.dtype != np.int64 or array.item() < 0:
                problems.append(f"{name} is no count but {array.dtype.name} {array.item()}")
        elif not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
            problems.append(f"{name} has the dtype {array.dtype.name}")
        elif bad := array.size - int(np.isfinite(array).sum()):
            problems.append(f"{name} has {bad} of {array.size} values that are NaN or infinite")
        elif name.endswith("running_var") and (array < 0).any():
            problems.append(f"{name} has negative variances")
    if problems:
        raise UserError(f"these tensors can't be a network's: {'; '.join(problems)}")


def _from_jax(path: Path, layout: str | None) -> Checkpoint:
    import flax_resnet.checkpoint  # not above: files are read without JAX
    from parity.arrays import join, torch_arrays

    record, tree = flax_resnet.checkpoint.read(path)
    description = described(record, path)
    model = join(tree)
    momentum = torch_arrays(tree["momentum"]) if "momentum" in tree else None
    if "progress" in record:
        step, _ = progressed(record, path)
        momentum = momentum or {}
        if COUNTER not in tree:  # JAX counts no batches: each is a step
            model |= {
                n: np.asarray(step, np.int64) for n in wanted_shapes(description) if n.endswith(COUNTER)
            }
    return _checked(Checkpoint(record, model, momentum, "jax", OURS), path, layout)


def _from_torch(path: Path, layout: str | None, weights: str | None) -> Checkpoint:
    content = torch_reader.load(path)
    if isinstance(content, Mapping) and isinstance(content.get("record"), str):
        tree = {name: value for name, value in content.items() if name != "record"}
        try:
            digests = {
                f"{group}.{name}": integrity.digest_of(array)
                for group, arrays in tree.items()
                for name, array in arrays.items()
            }
        except AttributeError as error:  # something else than dicts of tensors
            raise unreadable(path, error) from error
        record = _opened(content["record"], digests, path)
        groups = {name: _in_c_order(arrays) for name, arrays in tree.items()}
        return _checked(
            Checkpoint(record, groups["model"], groups.get("momentum"), "torch", OURS), path, layout
        )
    found = _other_projects(content, "torch", layout, weights)
    return dataclasses.replace(found, checksums=torch_files.has_checksums(path))


def _recognised(container: Container, layout: str | None) -> tuple[Layout, ModelDescription, Arrays]:
    """`from_state_dict` for what was found in a file; errors say where in it."""
    try:
        return from_state_dict(container.tensors, layout)
    except UserError as error:
        keys = [container.wrapper] if isinstance(container.wrapper, str) else container.wrapper
        where = ".".join([*filter(None, keys), container.prefix]).rstrip(".")
        raise UserError(f"the network under {where}: {error}" if where else str(error)) from error


def _from_safetensors(path: Path, layout: str | None, weights: str | None) -> Checkpoint:
    tensors, metadata = open_safetensors(path)
    if "record" in metadata:
        digests = {f"model.{name}": integrity.digest_of(array) for name, array in tensors.items()}
        record = _opened(metadata["record"], digests, path)
        return _checked(Checkpoint(record, tensors, None, "safetensors", OURS), path, layout)
    return _other_projects(tensors, "safetensors", layout, weights, metadata)


def _opened(record: str, digests: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The record in a file of this project, checked, and that the tensors are those of it."""
    try:
        sealed = json_values.parse(record)
    except ValueError as error:
        raise unreadable(path, error) from error
    return check_record(integrity.check(sealed, digests, path), path)


def _in_c_order(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Arrays in this computer's byte order, and with their values in the order of their last axis."""
    return {name: np.asarray(a, a.dtype.newbyteorder("="), order="C") for name, a in arrays.items()}


def _from_shards(index: Path, layout: str | None, weights: str | None) -> Checkpoint:
    """Another project's checkpoint whose tensors are in several files.

    Raises:
      UserError: also if a file does not hold the tensors that the index says, all of them and no others.
    """
    form, listed = sources.form_of(index), sources.weight_map(index)
    merged: dict[str, Any] = {}
    shards = sources.shards(index)
    for shard in shards:
        check_kind(shard)
        tensors = open_safetensors(shard)[0] if form == "safetensors" else torch_reader.load(shard)
        wanted = {name for name, file in listed.items() if file == shard.name}
        if not isinstance(tensors, Mapping) or wanted != tensors.keys():
            differ = sorted(map(str, wanted ^ set(tensors))) if isinstance(tensors, Mapping) else ["all"]
            raise UserError(
                f"{index}: {shard.name} does not hold the tensors that the index says ({len(differ)} differ, "
                f"such as {printable(differ[0])}): download both again"
            )
        merged |= tensors
    metadata = {"format": "pt"} if form == "safetensors" else None
    found = _other_projects(merged, form, layout, weights, metadata)
    checksums = all(torch_files.has_checksums(shard) for shard in shards)
    return dataclasses.replace(found, shards=len(shards), checksums=checksums)


def _other_projects(
    content: Any, form: str, layout: str | None, weights: str | None, metadata: dict[str, str] | None = None
) -> Checkpoint:
    """The checkpoint of another project in what a file holds.

    Args:
      content: nested dicts with arrays for tensors.
      form: torch or safetensors.
      layout: as `read`.
      weights: as `read`.
      metadata: of a safetensors file, which has no other fields.
    """
    container = unwrap(content, weights)
    found, description, tensors = _recognised(container, layout)
    source = {
        "layout": found.name,
        "form": form,
        "wrapper": container.wrapper,
        "prefix": container.prefix,
        "fields": container.fields if metadata is None else metadata,
    }
    record = {"model": json.loads(description.to_json()), "source": source}
    lost = tuple(container.lost)
    counters = [tensor for name, tensor in tensors.items() if name.endswith(COUNTER)]
    if any(np.issubdtype(counter.dtype, np.floating) for counter in counters):  # averaged with the weights
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
        lost = (*lost, f"{COUNTER} (no whole numbers; nothing computes with them)")
    return Checkpoint(record, _in_c_order(tensors), None, form, found, lost, sealed=False)


def _described_beside(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Another project's checkpoint with what the files in its folder say about it."""
    description = checkpoint.description
    said = beside.read(folder, description.arch, description.num_classes)
    for fields in said.values():
        checkpoint = checkpoint.corrected(fields)
    source = {**checkpoint.record["source"], **({"beside": list(said)} if said else {})}
    return dataclasses.replace(checkpoint, record={**checkpoint.record, "source": source})


def _checked(checkpoint: Checkpoint, path: Path, layout: str | None) -> Checkpoint:
    """Check names, shapes and progress of a checkpoint of this project, and return it."""
    if layout and named(layout) is not OURS:
        raise UserError(f"{path} is a checkpoint of this project, not one in the layout {layout}")
    description = described(checkpoint.record, path)
    check_names({name: array.shape for name, array in checkpoint.model.items()}, description)
    if checkpoint.momentum:
        params = {name: shape for name, shape in wanted_shapes(description).items() if is_param(name)}
        shapes = {name: array.shape for name, array in checkpoint.momentum.items()}
        matching.check(shapes, params, "the momentum does not fit the network")
    if "progress" in checkpoint.record:
        progressed(checkpoint.record, path)
    return checkpoint
