"""Flax's part of a comparison: its tensors' sources, and all runs of its network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from parity.comparison import refusals
from parity.comparison.flax_mode import FlaxMode, FlaxRuns
from parity.comparison.halves import FlaxHalf
from parity.comparison.inputs import Arguments
from parity.comparison.links import InputWays, input_ways
from parity.comparison.mapping import mapping as maps
from parity.comparison.recording import Arrays, Recording
from parity.comparison.structure import Structure
from parity.comparison.torch_mode import Settings, TorchMode
from parity.comparison.weights import Weights
from parity.environment import jax_versions
from recipe.system.errors import UserError


@dataclasses.dataclass(frozen=True)
class FlaxNetwork:
    """What a comparison has to know of the Flax network beside its runs.

    Attributes:
      name: its class name.
      tensors: paths of all float tensors.
      parameters: paths of those that are learned.
      owned: module path → paths of all float tensors in it.
      mapped: where the tensors come from.
      input_ways: how gradients of PyTorch's inputs go to Flax's.
      notes: what was guessed, in words.
    """

    name: str
    tensors: tuple[str, ...]
    parameters: tuple[str, ...]
    owned: dict[str, frozenset[str]]
    mapped: maps.TensorMap
    input_ways: InputWays
    notes: tuple[str, ...]


class Described(Protocol):
    """What has to be known of PyTorch's network before Flax's can run."""

    settings: Settings
    structure: Structure
    inputs: Arguments
    form: str


class FlaxPart:
    """Flax's network, run as it is needed.

    Args:
      half: the network and how it is called.
      torch: PyTorch's part.
      progress: told what runs.

    Raises:
      UserError: if it does not run, or its tensors can't be mapped.
    """

    def __init__(self, half: FlaxHalf, torch: Described, progress: Callable[[str], None]):
        self._half, self._torch, self._progress = half, torch, progress
        self._side = half.side()
        settings = torch.settings
        for what, ours, theirs in (
            ("a loss", half.loss, settings.loss),
            ("an optimizer", half.optimizer, settings.optimizer),
        ):
            if (ours is not None) != theirs:
                has, lacks = ("PyTorch", "Flax") if theirs else ("Flax", "PyTorch")
                raise UserError(f"{has} is given {what}, {lacks} none: give both or neither")
        progress("mapping the tensors")
        notes = [self._side.guessed] if self._side.guessed else []
        words, self._chosen, self._inputs, described = self._run_inputs(settings.modes[0] == "train")
        notes += [words] if words else []
        mapped = maps.find(torch.structure, self._side, described, half.weights)
        parameters = tuple(self._side.parameters)
        refusals.of_mapping(mapped, parameters, settings.gradients)
        model = half.model[0] if isinstance(half.model, tuple | list) else half.model
        self._own = {  # of a tensor that has a source the shape alone
            path: np.broadcast_to(0.0, array.shape) if path in mapped.sources else array
            for path, array in self._side.tensors().items()
        }
        self.network = FlaxNetwork(
            type(model).__name__, tuple(self._own), parameters, self._side.owned(), mapped,
            input_ways(torch.inputs.leaves, self._leaves), tuple(notes),
        )  # fmt: skip

    def mode(self, weights: Weights, theirs: TorchMode) -> FlaxMode:
        """What belongs to what in one mode, and its runs.

        Raises:
          UserError: if nothing can be compared.
        """
        mapped = self.network.mapped
        owned = self._torch.structure.owned, self.network.owned

        def tensors(precision: str) -> Arrays:
            return mapped.carry(weights.of(precision), self._own)

        runs = FlaxRuns(
            self._side,
            tensors,
            self._inputs,
            theirs,
            mapped.sources,
            weights.rough,
            owned,
            self.network.input_ways,
            self._progress,
        )
        return runs.found

    def updated(self, weights: Weights, grads: Arrays) -> Arrays:
        """All parameters after some updates by optax, from PyTorch's parameters and gradients."""
        from parity.comparison.sides import optax_updates

        sources = self.network.mapped.sources
        moved = [p for p in self.network.parameters if p in sources]
        return optax_updates.after(
            self._half.optimizer, {p: sources[p](weights.fine) for p in moved},
            {p: sources[p].gradients(grads, self._own[p])[0][1] for p in moved},
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Versions and the device."""
        import jax

        return {**jax_versions(), "jax device": jax.devices()[0].device_kind}

    def _run_inputs(self, training: bool) -> tuple[str, int, Arguments, Recording]:
        """What Flax is given, with words, its number among all that it might be, and what it does with it."""
        failures = []
        for number, (words, made) in enumerate(self._half.arguments(self._torch.inputs, self._torch.form)):
            try:
                described = self._side.describe(made, training)
            except UserError:
                raise
            except Exception as error:  # a stranger's network may raise anything
                failures.append(error)
                continue
            return words, number, made, described
        mode = "train" if training else "eval"
        with refusals.running(f"in {mode} mode the Flax network", "; see flax_call=, flax_inputs="):
            raise failures[0]

    def _leaves(self, leaves: list[Any]) -> list[Any]:
        """What Flax is given for other numbers in PyTorch's inputs."""
        given = self._torch.inputs.replaced(leaves)
        return list(self._half.arguments(given, self._torch.form))[self._chosen][1].leaves
