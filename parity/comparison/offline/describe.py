"""The first step, where PyTorch is: all that Flax's runs depend on goes into a folder."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.comparison import refusals
from parity.comparison.halves import TorchHalf
from parity.comparison.levels import ALL, chosen_levels, modes_of
from parity.comparison.memory import free_memory
from parity.comparison.offline.folder import (
    LEVELS,
    NETWORK,
    REFUSED,
    SETTINGS,
    TENSORS,
    TORCH,
    VERSIONS,
    Network,
    Refusals,
    digests,
)
from parity.comparison.offline.parts import INDEX, writing
from parity.comparison.torch_part import TorchPart, settings_of
from recipe.system.errors import UserError
from recipe.system.files import expanded


def describe(
    torch_model: Any,
    inputs: Any,
    folder: str | Path,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> None:
    """Write what a Flax network has to be compared with; JAX is not needed.

    Args:
      torch_model: and
      inputs: and
      **settings: the fields of `TorchHalf`.
      folder: is written whole or not at all; an older description there is replaced, with all of its runs.
      levels: 1 mapping, 2 evaluation forward, 3 training forward, 4 gradients, 5 an optimizer's update.
      memory: bytes that the captured values may take; three quarters of what is free by default.
      progress: called with words on what runs.

    Raises:
      UserError: if nothing can be compared with the network, or the folder is something else.
    """
    half = TorchHalf(torch_model, inputs, **settings)
    describe_half(half, folder, levels=levels, memory=memory, progress=progress)


def describe_half(
    half: TorchHalf,
    folder: str | Path,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """`describe` for a `TorchHalf`."""
    folder = expanded(folder)
    if folder.exists() and not (folder / TORCH / INDEX).is_file():
        raise UserError(f"{folder} exists and is no description: choose another name")
    chosen, say = chosen_levels(levels), progress or (lambda _: None)
    limit = free_memory() if memory is None else memory
    part = TorchPart(half, settings_of(half, chosen), say)
    weights = part.weights(part.structure.shapes)
    with writing(folder, TORCH) as writer:
        writer.write(NETWORK, Network(part.structure, part.inputs, part.form, weights))
        modes, refused = modes_of(half.modes, chosen), Refusals(say)
        for name in modes:
            with refused.around(name):
                mode = part.mode(weights, name == "train")
                refusals.of_memory(mode.run, weights.fine, limit)
                writer.write(name, mode)
        refused.check(modes)
        versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
        writer.add(SETTINGS, part.settings)
        writer.facts |= {
            "network": type(half.model).__name__,
            LEVELS: sorted(chosen),
            REFUSED: refused.found,
            VERSIONS: versions,
            TENSORS: digests(part.given),
        }
