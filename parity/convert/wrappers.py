"""State dicts in other projects' files: the dicts around them, and the prefixes of their names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from torch import Tensor

from recipe.system.errors import UserError, choice
from recipe.training.checkpoints import unreadable

WRAPPERS = ("state_dict", "net", "model", "state_dict_ema")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning


class Container(NamedTuple):
    """A state dict, and what was taken off it."""

    tensors: dict[str, Tensor]
    wrapper: str  # one of WRAPPERS, or "" where the file is the state dict itself
    prefix: str  # of every name in the file
    fields: dict[str, Any]  # the file's other entries, those that JSON can hold
    lost: list[str]  # names of the entries that JSON can't hold, such as an optimizer's state


def open_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return a safetensors file's tensors and its metadata.

    Raises:
      UserError: if it is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:
        raise unreadable(path, error) from error


def unwrap(content: Any, weights: str | None = None) -> Container:
    """Find the state dict in what a PyTorch file holds.

    Args:
      content: what `torch.load` returned.
      weights: the wrapper to take the weights from, where there are several, such as "state_dict_ema".

    Raises:
      UserError: if there is no state dict, or several and none is named.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"the file holds no state dict but a {type(content).__name__}")
    found = [name for name in WRAPPERS if _is_state_dict(content.get(name))]
    if weights:
        found = [choice("weights", weights, found)] if found else []
    if len(found) > 1:
        raise UserError(
            f"the file holds weights under {' and '.join(found)}: say which ones with --weights={found[0]}"
        )
    wrapper = found[0] if found else ""
    state_dict = content[wrapper] if wrapper else content
    tensors = {str(name): value for name, value in state_dict.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in state_dict.items() if not isinstance(value, Tensor)}
    if wrapper:
        others |= {name: value for name, value in content.items() if name != wrapper}
    if not tensors:
        raise UserError(
            f"the file holds no state dict: its entries are {', '.join(map(str, content)) or 'none'}"
        )
    prefix = ""
    while (added := _common_prefix(tensors)) is not None:
        prefix += added
        tensors = {name[len(added) :]: value for name, value in tensors.items()}
    fields = {name: value for name, value in others.items() if _is_json(name, value)}
    return Container(tensors, wrapper, prefix, fields, [str(name) for name in others if name not in fields])


def wrap(
    tensors: Mapping[str, Tensor], wrapper: str, prefix: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """The inverse of `unwrap`."""
    state_dict = {prefix + name: tensor for name, tensor in tensors.items()}
    return {wrapper: state_dict, **fields} if wrapper else {**state_dict, **fields}


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(entry, Tensor) for entry in value.values())


def _common_prefix(tensors: Mapping[str, Tensor]) -> str | None:
    return next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)


def _is_json(name: Any, value: Any) -> bool:
    try:
        return isinstance(name, str) and json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False
