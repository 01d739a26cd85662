"""The comparison of a pair: map its tensors, then compare it in each mode."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from parity.comparison import grouping, refusals, updates
from parity.comparison.causes import tensors
from parity.comparison.environment import environment
from parity.comparison.findings import TENSOR, Place, exact
from parity.comparison.flax_mode import FlaxMode
from parity.comparison.flax_part import FlaxNetwork
from parity.comparison.halves import TorchHalf
from parity.comparison.inputs import Arguments
from parity.comparison.levels import TITLES, modes_of
from parity.comparison.mapping import mapping as maps
from parity.comparison.mode import ModeComparison
from parity.comparison.recording import Arrays
from parity.comparison.report import CompareReport
from parity.comparison.sides import torch_updates
from parity.comparison.sides.torch_side import TorchSide
from parity.comparison.structure import Structure
from parity.comparison.torch_mode import Settings, TorchMode
from parity.comparison.weights import Weights
from parity.result import Check
from recipe.system.errors import UserError

Progress = Callable[[str], None]


class FlaxRunner(Protocol):
    """Flax's part of a comparison: live, or as it was recorded."""

    network: FlaxNetwork

    def mode(self, weights: Weights, theirs: TorchMode) -> FlaxMode:
        """What belongs to what in one mode, and its runs."""

    def updated(self, weights: Weights, grads: Arrays) -> Arrays:
        """All parameters after some updates by optax."""

    def environment(self) -> dict[str, str]:
        """Versions and devices."""


class TorchRunner(Protocol):
    """PyTorch's part of a comparison: live, or as it was described."""

    settings: Settings
    structure: Structure
    inputs: Arguments

    def weights(self, used: Collection[str]) -> Weights:
        """Those with which both networks run."""

    def mode(self, weights: Weights, training: bool) -> TorchMode:
        """A run in one mode."""


class Comparison:
    """A pair that is being compared.

    Args:
      half: PyTorch's network and the comparison's settings.
      side: the network, for runs in lower precisions and for causes.
      torch: PyTorch's part, and
      flax: Flax's.
      levels: which to run.
      memory: how many bytes the captured values may take.
      progress: told what runs.
    """

    def __init__(
        self,
        half: TorchHalf,
        side: TorchSide,
        torch: TorchRunner,
        flax: FlaxRunner,
        levels: frozenset[int],
        memory: float,
        progress: Progress,
    ):
        self.side, self.torch, self.flax, self.levels, self.progress = side, torch, flax, levels, progress
        self.precisions = half.precisions
        self._half, self._memory = half, memory
        self.notes: list[str] = list(flax.network.notes)
        self.unseen: list[str] = []
        self.undone: list[str] = []

    def run(self) -> Iterator[Check]:
        """All checks."""
        yield self._mapping()
        modes = modes_of(self._half.modes, self.levels)
        if not modes:
            return
        self.weights = self.torch.weights(self.flax.network.mapped.used)
        self._note_redrawn()
        grads: Arrays | None = None
        refused: list[UserError] = []
        for mode in modes:
            try:
                theirs = self.torch.mode(self.weights, mode == "train")
                refusals.of_memory(theirs.run, self.weights.fine, self._memory)
                ours = self.flax.mode(self.weights, theirs)
                yield from ModeComparison(self, theirs, ours).run()
                grads = theirs.run.grads
            except UserError as error:  # the other mode may go on all the same
                refused.append(error)
                self.undone.append(f"{mode} mode: {error}")
        if grads is None:
            raise refused[0]
        if 5 in self.levels and self._half.optimizer:
            yield self._updates(grads)

    def _note_redrawn(self) -> None:
        """Tensors that go nowhere, but were constant and drawn anew: a description can't know of them."""
        lost = self.weights.redrawn - self.flax.network.mapped.used
        if lost:
            names = [name for name in self.torch.structure.shapes if name in lost]
            self.notes.append(
                f"{refusals.listed(names)}: constant in PyTorch, so drawn anew, but nothing of Flax is "
                f"made of it; keep={names[:1]} leaves it as it is"
            )

    def _updates(self, grads: Arrays) -> Check:
        """Three updates from the last mode's gradients."""
        self.progress("updating by both optimizers")
        network, tensors = self.flax.network, self.weights.fine
        sources = {p: network.mapped.sources[p] for p in network.parameters if p in network.mapped.sources}
        used = {name for source in sources.values() for name in source.names}
        known = {n: grads.get(n, np.zeros_like(tensors[n])) for n in tensors if n in used}
        assert self._half.optimizer is not None
        low, exact = (
            torch_updates.after(self._half.optimizer, tensors, known, precision)
            for precision in ("f32", "f64")
        )
        found = updates.compare(sources, low, exact, self.flax.updated(self.weights, known))
        return Check(5, "three updates by both optimizers", "f64", "largest element", self.allow(found))

    def _mapping(self) -> Check:
        mapped, structure = self.flax.network.mapped, self.torch.structure
        shared = {path for paths in mapped.copies.values() for path in paths}
        wrong = shared.union(mapped.left_out, mapped.without_source)
        separate = tensors.separate(mapped, structure)
        found = []
        for path in self.flax.network.tensors:
            source = mapped.sources.get(path)
            torch = " + ".join(source.names) if source else separate.get(path, path)
            cause = tensors.of_flax(path, mapped, structure) if path in wrong else None
            found.append(exact(TENSOR, torch, path, cause))
        for name in mapped.without_destination:
            found.append(exact(TENSOR, name, "", tensors.of_torch(name, mapped, structure)))
        if mapped.guessed:
            self.notes.append(
                f"the mapping of {len(mapped.guessed)} tensors is a guess, by order of execution, shape and "
                "name: --map prints it"
            )
        self.unseen += [
            f"{name}: a buffer of PyTorch, and no tensor of Flax is the same: taken for a constant"
            for name in mapped.constants
        ]
        return Check(1, "every tensor has its counterpart", "exact", "differences", self.allow(found))

    def report(self, checks: Sequence[Check], seconds: float) -> CompareReport:
        """The report of the checks."""
        return CompareReport(
            self._half.name or f"{type(self._half.model).__name__} and {self.flax.network.name}",
            environment(self.flax.environment()),
            tuple(sorted(checks, key=lambda check: check.level)),
            seconds,
            TITLES,
            grouping.differences(checks),
            grouping.less_exact(checks),
            grouping.allowed(checks),
            tuple(dict.fromkeys(self.unseen)),
            tuple(dict.fromkeys(self.notes)),
            tuple(self.undone),
            maps.as_python(self.flax.network.mapped),
        )

    def allow(self, places: Iterable[Place]) -> tuple[Place, ...]:
        """Places with the reason why the user allows them, where one does."""
        found = []
        for one in places:
            if one.ratio > 1:
                names = [path for text in (one.torch, one.flax) for path in _with_parents(text)]
                for pattern, reason in self._half.allow:
                    if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                        one = dataclasses.replace(one, reason=reason)
                        break
            found.append(one)
        return tuple(found)


def _with_parents(text: str) -> list[str]:
    """The tensors or modules of a place, and all modules that they are in."""
    found = []
    for path in text.split(" + "):
        parts = path.partition(" (")[0].split(".")
        found += [".".join(parts[: end + 1]) for end in range(len(parts))]
    return found
