"""The network that a state dict belongs to, and its tensors under this project's names."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.convert.layouts import OURS, Layout, Shapes, describe, named, recognise
from recipe import state_dict
from recipe.architectures import ModelDescription
from recipe.state_dict import COUNTER, Arrays
from recipe.system import matching
from recipe.system.errors import UserError


def wanted_shapes(description: ModelDescription) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's state dict, in PyTorch's order, counters included."""
    return state_dict.shapes(description)


def check_names(shapes: Shapes, description: ModelDescription, layout: Layout = OURS) -> dict[str, str]:
    """Match shapes by name with those of a network's state dict, in a layout's names.

    A state dict may lack batch counters, but all of them.

    Returns:
      this project's name of each tensor, by its name in the layout.

    Raises:
      UserError: if tensors are missing, left over or of another shape; names all of them.
    """
    wanted = wanted_shapes(description)
    if not any(name.endswith(COUNTER) for name in shapes):
        wanted = {name: shape for name, shape in wanted.items() if not name.endswith(COUNTER)}
    theirs = {layout.theirs(name): name for name in wanted}
    what = f"not a {description.arch} in the layout {layout.name}"
    matching.check(shapes, {name: wanted[ours] for name, ours in theirs.items()}, what)
    return theirs


def from_state_dict(
    tensors: Mapping[str, np.ndarray], layout: str | None
) -> tuple[Layout, ModelDescription, Arrays]:
    """Recognise a state dict by its names and shapes, and rename its tensors.

    Returns:
      its layout, the description of its network, and its tensors under this project's names.

    Raises:
      UserError: if it fits no network of this family, or fits several layouts.
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
    ours = check_names(shapes, description, found)
    return found, description, {ours[name]: tensor for name, tensor in tensors.items()}
