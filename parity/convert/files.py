"""Reading checkpoints of any form as named arrays, and writing them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

import torch_ref.checkpoint
from parity.convert import beside, guesses, sources
from parity.convert.layouts import LAYOUTS, OURS, Layout, check_export, named
from parity.convert.state_dicts import check_names, from_state_dict, wanted_shapes
from parity.convert.strangers import check_kind
from parity.convert.wrappers import DEPTH, Container, open_safetensors, unwrap, wrap
from parity.tensors import Arrays, is_param, to_numpy, to_tensor
from recipe.architectures import ModelDescription
from recipe.system import integrity, json_values, matching
from recipe.system.errors import UserError
from recipe.system.files import atomic_path
from recipe.system.terminal import printable
from recipe.training.checkpoints import check_record, described, progressed
from torch_ref.checkpoint import digest
from torch_ref.train_state import COUNTER


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
        elif path.name.endswith(sources.INDEX):
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


def write(path: Path, checkpoint: Checkpoint, form: str, layout: Layout) -> list[str]:
    """Write a checkpoint to a path that is free, and return the names of what the form can't hold.

    Raises:
      UserError: if the layout's project would compute another function from the tensors.
    """
    check_export(layout, checkpoint.description)
    if form == "jax":
        _to_jax(path, checkpoint)
        return []
    tensors = {name: to_tensor(array) for name, array in in_order(checkpoint).items()}
    run = [] if checkpoint.step is None else ["momentum", "step", "epoch position"]
    weights_record = {name: value for name, value in checkpoint.record.items() if name != "progress"}
    if layout is not OURS:
        source = checkpoint.record.get("source", {})
        same = source if source.get("layout") == layout.name and source.get("form") == form else {}
        theirs = {layout.theirs(name): tensor for name, tensor in tensors.items()}
        if form == "safetensors":
            named_alike = wrap(theirs, "", same.get("prefix", ""), {})
            _save_safetensors(path, named_alike, same.get("fields", {"format": "pt"}))
        else:
            wrapping = (same.get("wrapper", ""), same.get("prefix", ""), same.get("fields", {}))
            torch_ref.checkpoint.save(path, wrap(theirs, *wrapping))
        return [*run, *([] if same else ["description"])]
    if form == "safetensors":
        digests = {f"model.{name}": digest(tensor) for name, tensor in tensors.items()}
        sealed = json.dumps(integrity.seal(weights_record, digests))
        _save_safetensors(path, tensors, {"format": "pt", "record": sealed})
        return run
    tree = {"model": tensors}
    if checkpoint.momentum is not None:
        tree["momentum"] = {name: to_tensor(array) for name, array in checkpoint.momentum.items()}
    torch_ref.checkpoint.write(path, checkpoint.record, tree)
    return []


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


def in_order(checkpoint: Checkpoint) -> Arrays:
    """The checkpoint's state dict, in the order of PyTorch's own."""
    return {n: checkpoint.model[n] for n in wanted_shapes(checkpoint.description) if n in checkpoint.model}


def _from_jax(path: Path, layout: str | None) -> Checkpoint:
    import flax_resnet.checkpoint  # not above: files of PyTorch are read without JAX
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


def _to_jax(path: Path, checkpoint: Checkpoint) -> None:
    import flax_resnet.checkpoint
    from parity.arrays import params_tree, split

    tree = split(checkpoint.model)
    if checkpoint.step is not None:  # reading a run without counters sets them to the step
        counters = [array for name, array in checkpoint.model.items() if name.endswith(COUNTER)]
        if not counters:
            tree[COUNTER] = {}
        elif all(counter == checkpoint.step for counter in counters):
            del tree[COUNTER]
    if checkpoint.momentum:
        tree["momentum"] = params_tree(checkpoint.momentum)
    flax_resnet.checkpoint.write(path, checkpoint.record, tree)


def _from_torch(path: Path, layout: str | None, weights: str | None) -> Checkpoint:
    content = torch_ref.checkpoint.load(path)
    if isinstance(content, Mapping) and isinstance(content.get("record"), str):
        record, tree = torch_ref.checkpoint.opened(dict(content), path)
        arrays = {name: {k: to_numpy(t) for k, t in tensors.items()} for name, tensors in tree.items()}
        return _checked(
            Checkpoint(record, arrays["model"], arrays.get("momentum"), "torch", OURS), path, layout
        )
    return _other_projects(_with_tensors(content), "torch", layout, weights)


def _recognised(
    container: Container, layout: str | None
) -> tuple[Layout, ModelDescription, dict[str, Tensor]]:
    """`from_state_dict` for what was found in a file; errors say where in it."""
    try:
        return from_state_dict(container.tensors, layout)
    except UserError as error:
        keys = [container.wrapper] if isinstance(container.wrapper, str) else container.wrapper
        where = ".".join([*filter(None, keys), container.prefix]).rstrip(".")
        raise UserError(f"the network under {where}: {error}" if where else str(error)) from error


def _with_tensors(content: Any, depth: int = 0) -> Any:
    """What a PyTorch file holds, with tensors for NumPy's arrays of numbers."""
    if isinstance(content, np.ndarray) and content.dtype.kind in "biuf":
        return torch.from_numpy(content.astype(content.dtype.newbyteorder("=")))
    if isinstance(content, Mapping) and depth < DEPTH:
        return {name: _with_tensors(value, depth + 1) for name, value in content.items()}
    return content


def _from_safetensors(path: Path, layout: str | None, weights: str | None) -> Checkpoint:
    tensors, metadata = open_safetensors(path)
    if "record" in metadata:
        digests = {f"model.{name}": digest(tensor) for name, tensor in tensors.items()}
        try:
            sealed = json_values.parse(metadata["record"])
        except ValueError as error:
            raise UserError(f"{path} has a damaged record: {error}") from error
        record = check_record(integrity.check(sealed, digests, path), path)
        model = {name: to_numpy(tensor) for name, tensor in tensors.items()}
        return _checked(Checkpoint(record, model, None, "safetensors", OURS), path, layout)
    return _other_projects(tensors, "safetensors", layout, weights, metadata)


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
        tensors = (
            open_safetensors(shard)[0]
            if form == "safetensors"
            else _with_tensors(torch_ref.checkpoint.load(shard))
        )
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
    return dataclasses.replace(found, shards=len(shards))


def _other_projects(
    content: Any, form: str, layout: str | None, weights: str | None, metadata: dict[str, str] | None = None
) -> Checkpoint:
    """The checkpoint of another project in what a file holds.

    Args:
      content: nested dicts with tensors.
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
    if any(tensor.is_floating_point() for tensor in counters):  # averaged with the weights
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(COUNTER)}
        lost = (*lost, f"{COUNTER} (no whole numbers; nothing computes with them)")
    model = {name: to_numpy(tensor) for name, tensor in tensors.items()}
    return Checkpoint(record, model, None, form, found, lost, sealed=False)


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


def _save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(dict(tensors), metadata=metadata))
