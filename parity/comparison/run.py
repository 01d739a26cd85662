"""The comparison of a pair: map its tensors, then compare it in each mode."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison import grouping, refusals, updates
from parity.comparison.causes import tensors
from parity.comparison.environment import environment
from parity.comparison.findings import TENSOR, Place, exact
from parity.comparison.inputs import Arguments
from parity.comparison.mapping import mapping as maps
from parity.comparison.mode import ModeComparison
from parity.comparison.pair import Pair
from parity.comparison.recording import Arrays, Recording
from parity.comparison.reference import Reference, disturbed
from parity.comparison.report import TITLES, CompareReport
from parity.comparison.sides.torch_side import TorchSide
from parity.result import Check
from recipe.system.errors import UserError

Progress = Callable[[str], None]


class Comparison:
    """A pair that is being compared.

    Args:
      pair: the networks and how they are called.
      levels: which to run.
      memory: how many bytes the captured values may take.
      progress: told what runs.
    """

    def __init__(self, pair: Pair, levels: frozenset[int], memory: float, progress: Progress):
        self.pair, self.levels, self._memory, self._progress = pair, levels, memory, progress
        self.torch = TorchSide(
            pair.torch_model, pair.torch_call, pair.torch_outputs, pair.losses[0], pair.seed
        )
        self.flax = pair.flax_side()
        self.inputs = pair.arguments
        self.notes: list[str] = [self.flax.guessed] if self.flax.guessed else []
        self.unseen: list[str] = []

    def run(self) -> Iterator[Check]:
        """All checks."""
        training = self.pair.modes[0] == "train"
        self._progress("running PyTorch")
        free = self.torch.run(self.torch.tensors(), self.inputs, "f64", training)
        refusals.of_outputs(free)
        self._progress("mapping the tensors")
        self.flax_inputs, described = self._flax_inputs(training)
        self.mapped = maps.find(self.torch, self.flax, free, described, self.pair.weights)
        yield self._mapping()
        rest = self.levels - {1}
        if not rest:
            return
        gradients = bool(rest & {4, 5})
        refusals.of_mapping(self.mapped, self.flax.parameters, gradients)
        given = self.torch.tensors()
        drawn = disturbed({n: given[n] for n in self.mapped.used}, self.pair.seed)
        self.reference = Reference(
            self.torch, given | drawn, self.mapped.used, self.inputs, self.pair.seed, gradients
        )
        self.own = self.flax.tensors()
        for mode in self.pair.modes:
            level = {"eval": 2, "train": 3}[mode]
            if not rest & {level, 4, 5}:
                continue
            last = ModeComparison(self, mode == "train")
            yield from last.run()
        if 5 in rest and self.pair.optimizers:
            yield self._updates(last.theirs.grads)

    def _flax_inputs(self, training: bool) -> tuple[Arguments, Recording]:
        """What Flax is given, and what it would do with it."""
        failures = []
        for number, (words, made) in enumerate(self.pair.flax_arguments()):
            try:
                described = self.flax.describe(made, training)
            except UserError:
                raise
            except Exception as error:  # a stranger's network may raise anything
                failures.append(error)
                continue
            if words:
                self.notes.append(words)
            self._chosen = number
            return made, described
        first = failures[0]
        text = f"{type(first).__name__}: {(str(first) or 'no message').splitlines()[0]}"
        raise UserError(
            f"the Flax network does not run on these inputs ({text}); see flax_call=, flax_inputs="
        ) from first

    def _updates(self, grads: Arrays) -> Check:
        """Three updates from the last mode's gradients."""
        assert self.pair.optimizers is not None
        self._progress("updating by both optimizers")
        sources = {p: self.mapped.sources[p] for p in self.flax.parameters if p in self.mapped.sources}
        used = {name for source in sources.values() for name in source.names}
        known = {n: grads.get(n, np.zeros_like(self.reference.fine[n])) for n in used}
        found = updates.compare(self.pair.optimizers, sources, self.reference.fine, known)
        return Check(5, "three updates by both optimizers", "f64", "largest element", self.allow(found))

    def flax_leaves(self, leaves: list[Any]) -> list[Any]:
        """What Flax is given for other numbers in PyTorch's inputs."""
        pair = self.pair.with_inputs(self.inputs.replaced(leaves))
        return list(pair.flax_arguments())[self._chosen][1].leaves

    def _mapping(self) -> Check:
        mapped = self.mapped
        shared = {path for paths in mapped.copies.values() for path in paths}
        wrong = shared.union(mapped.left_out, mapped.without_source)
        shapes = {name: array.shape for name, array in self.torch.tensors().items()}
        found = []
        for path in self.flax.tensors():
            source = mapped.sources.get(path)
            torch = " + ".join(source.names) if source else path
            cause = tensors.of_flax(path, mapped, self.torch.tied) if path in wrong else None
            found.append(exact(TENSOR, torch, path, cause))
        for name in mapped.without_destination:
            found.append(exact(TENSOR, name, "", tensors.of_torch(name, mapped, shapes)))
        if mapped.guessed:
            self.notes.append(
                f"the mapping of {len(mapped.guessed)} tensors is a guess, by order of execution, shape and "
                "name: --map prints it"
            )
        self.unseen += [
            f"{name}: PyTorch makes it itself and no tensor of Flax is the same" for name in mapped.constants
        ]
        return Check(1, "every tensor has its counterpart", "exact", "differences", self.allow(found))

    def report(self, checks: Sequence[Check], seconds: float) -> CompareReport:
        """The report of the checks."""
        return CompareReport(
            self.pair.name or f"{type(self.pair.torch_model).__name__} and {_name(self.pair.flax_model)}",
            environment(),
            tuple(sorted(checks, key=lambda check: check.level)),
            seconds,
            TITLES,
            grouping.differences(checks),
            grouping.less_exact(checks),
            grouping.allowed(checks),
            tuple(dict.fromkeys(self.unseen)),
            tuple(dict.fromkeys(self.notes)),
            maps.as_python(self.mapped),
        )

    def allow(self, places: Iterable[Place]) -> tuple[Place, ...]:
        """Places with the reason why the user allows them, where one does."""
        found = []
        for one in places:
            if one.ratio > 1:
                names = [path for text in (one.torch, one.flax) for path in _with_parents(text)]
                for pattern, reason in self.pair.allow:
                    if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                        one = dataclasses.replace(one, reason=reason)
                        break
            found.append(one)
        return tuple(found)

    def progress(self, words: str) -> None:
        """Say what runs."""
        self._progress(words)

    def check_memory(self, run: Recording) -> None:
        """Refuse what would not fit."""
        refusals.of_memory(run, self.reference.rough, self._memory)


def _with_parents(text: str) -> list[str]:
    """The tensors or modules of a place, and all modules that they are in."""
    found = []
    for path in text.split(" + "):
        parts = path.partition(" (")[0].split(".")
        found += [".".join(parts[: end + 1]) for end in range(len(parts))]
    return found


def _name(model: Any) -> str:
    return type(model[0] if isinstance(model, tuple | list) else model).__name__
