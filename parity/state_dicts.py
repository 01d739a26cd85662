"""Which network a state dict belongs to, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parity.layouts import UNKNOWN, Layout, describe, named, recognise
from recipe import bijection
from recipe.architectures import ModelDescription
from recipe.errors import UserError
from torch_ref.model import ResNet
from torch_ref.train_state import COUNTER


def wanted_shapes(description: ModelDescription) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's state dict, in PyTorch's order, counters included."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in ResNet(description).state_dict().items()}


def check_names(model: Mapping[str, Any], description: ModelDescription, layout: Layout) -> None:
    """Check that a state dict is a bijection onto a network's, in a layout's names.

    Batch counters are all there or none.
    """
    wanted = wanted_shapes(description)
    if not any(name.endswith(COUNTER) for name in model):
        wanted = {name: shape for name, shape in wanted.items() if not name.endswith(COUNTER)}
    bijection.check(
        {layout.theirs(name).removeprefix(UNKNOWN): tuple(a.shape) for name, a in model.items()},
        {layout.theirs(name): shape for name, shape in wanted.items()},
        f"not a {description.arch} in the layout {layout.name}",
    )


def from_state_dict(
    tensors: Mapping[str, Tensor], layout: str | None
) -> tuple[Layout, ModelDescription, dict[str, Tensor]]:
    """Find out what a bare state dict is, and rename it.

    Returns:
      its layout, its network, and its tensors under this project's names.

    Raises:
      UserError: if it is no network of this family, or could be of several layouts.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if layout:
        found = named(layout)
    else:
        candidates = recognise(shapes)
        if len(candidates) > 1:
            raise UserError(
                "its names and shapes fit "
                + " and ".join(f"{c.name} ({c.origin})" for c in candidates)
                + ", which compute different functions from them: say which with "
                + " or ".join(f"--layout={c.name}" for c in candidates)
            )
        found = candidates[0]
    description = describe(shapes, found)
    renamed = {found.ours(name): tensor for name, tensor in tensors.items()}
    check_names(renamed, description, found)
    return found, description, renamed
