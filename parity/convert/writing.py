"""Writing checkpoints of any form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

import flax_resnet.checkpoint
import torch_ref.checkpoint
from parity.arrays import params_tree, split
from parity.convert.files import Checkpoint
from parity.convert.layouts import OURS, Layout, check_export
from parity.convert.state_dicts import wanted_shapes
from parity.convert.wrappers import wrap
from parity.tensors import to_tensor
from recipe.state_dict import COUNTER, Arrays
from recipe.system import integrity
from recipe.system.files import atomic_path
from torch_ref.checkpoint import digest


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


def in_order(checkpoint: Checkpoint) -> Arrays:
    """The checkpoint's state dict, in the order of PyTorch's own."""
    return {n: checkpoint.model[n] for n in wanted_shapes(checkpoint.description) if n in checkpoint.model}


def _to_jax(path: Path, checkpoint: Checkpoint) -> None:
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


def _save_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(dict(tensors), metadata=metadata))
