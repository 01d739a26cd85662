"""Causes of the places that differ in a pinned run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from parity.cause import MATCHES, UNKNOWN, Cause, scale_or_rounding
from parity.comparison.causes import exchanged, gradients, layers, norms, pieces
from parity.comparison.causes.evidence import Evidence
from parity.comparison.findings import (
    BACKWARDS,
    BETWEEN,
    EQUAL,
    FLOAT32_SIZED,
    GRADIENT,
    LAYER,
    LESS_EXACT,
    LOSS,
    STATISTIC,
    Place,
)
from parity.comparison.grouping import follows
from parity.comparison.links import Link, Outputs
from parity.comparison.mapping.sources import Sources
from parity.comparison.recording import Arrays, Call, Recording, Slot
from parity.comparison.sides.torch_side import TorchSide

UNSTABLE_FROM = 0.1  # of the largest element; an ordinary place allows about 1e-6 of it in float32
ONE_PASS = "rounds like a variance in one pass, E[x²] − E[x]², which loses digits where the mean is large"
TRIES = 3  # searches in vain for a cause of pieces of the same operations, as in every block of a network
UNSTABLE = (
    "PyTorch's own float32 and float64 differ as much here; so do rows whose keys are all masked by a finite "
    "number: float32 loses their scores behind it, float64 doesn't"
)
MOST = 200  # places that are explained, and as many gradients; the report says how many differ


class Explainer:
    """Explains what differs between two pinned runs.

    Args:
      side: PyTorch's network.
      sources: of Flax's tensors.
      links: between the runs.
      outputs: which output is which.
      watched: calls → the run of PyTorch in float64 with their arguments.
      before: statistics before the pass.
      training: the mode.
      narrowed: where Flax converts to narrower floats; the float64 run left that out.
      arriving: gradients of PyTorch's outputs, where they are known.
    """

    def __init__(
        self,
        side: TorchSide,
        sources: Sources,
        links: Sequence[Link],
        outputs: Sequence[Outputs],
        watched: Callable[[frozenset[Call]], Recording],
        before: Arrays,
        training: bool,
        narrowed: Sequence[str],
        arriving: Mapping[str, np.ndarray],
    ):
        self._side, self._sources, self._links, self._outputs = side, sources, links, outputs
        self._watched, self._before, self._training, self._narrowed = watched, before, training, narrowed
        self._arriving = arriving
        self._in_vain: Counter[tuple[tuple[str, ...], bool]] = Counter()

    def explain(
        self, found: Sequence[Place], theirs: Recording, ours: Recording, precision: str
    ) -> list[Place]:
        """The places, with a cause where one differs."""
        wrong = [one for one in found if one.verdict != EQUAL]
        values = [one for one in wrong if not one.backwards]
        wrong = [*values[:MOST], *[w for w in wrong if w.backwards and not follows(w, values)][:MOST]]
        if not wrong:
            return list(found)
        slots = {(one.torch.module, one.torch.side, one.torch.number): one for one in self._links}
        calls = frozenset(
            one.torch.call for one in self._links if one.torch.module in {w.torch for w in wrong}
        )
        calls |= self._statistics_calls(wrong, theirs)
        watched = self._watched(calls)
        explained = {}
        for place in wrong:
            cause, guess = self._cause(place, slots, theirs, ours, watched, precision)
            explained[id(place)] = dataclasses.replace(place, cause=cause, guess=guess)
        return [explained.get(id(one), one) for one in found]

    def _cause(
        self, place: Place, slots: Any, theirs: Recording, ours: Recording, watched: Recording, precision: str
    ) -> tuple[Cause, bool]:
        if place.what == LOSS:
            return _of_loss(theirs, ours, precision), False
        if place.what == STATISTIC:
            return self._of_statistic(place, theirs, ours, watched, precision), False
        if place.what == GRADIENT or place.what.endswith(BACKWARDS):
            return self._of_gradient(place, slots, theirs, ours, watched), False
        if place.torch.startswith("output"):
            one = next(o for o in self._outputs if place.torch in (o.torch, f"output {o.torch}"))
            value = theirs.outputs[one.torch]
            back = one.layout.back(ours.outputs[one.flax], value.shape)
            return self._of_value(place, None, one.torch, value, back, theirs, ours, watched, precision)
        link = slots.get((place.torch, "out" if place.what == LAYER else "in", place.number))
        if link is None:
            return UNKNOWN, False
        value = theirs.slots[link.torch].value
        back = link.layout.back(ours.slots[link.flax].value, value.shape)
        return self._of_value(place, link, link.torch, value, back, theirs, ours, watched, precision)

    def _of_value(
        self, place: Place, link: Link | None, key: Slot | str, value: np.ndarray, back: np.ndarray,
        theirs: Recording, ours: Recording, watched: Recording, precision: str,
    ) -> tuple[Cause, bool]:  # fmt: skip
        module, args, kwargs = None, (), {}
        alone = link is not None and link.inner and link.torch.side == "out"
        if alone and isinstance(key, Slot) and key.call in watched.arguments:
            module = self._side.module(key.path)
            args, kwargs = watched.arguments[key.call]
        elsewhere = self._elsewhere(theirs, key)
        piece = watched.tape.piece(key) if watched.tape else None
        given = Evidence(
            module, args, kwargs, value, back, elsewhere, self._training, precision, piece, theirs.kinds
        )
        if place.verdict == LESS_EXACT:
            is_norm = "norm" in place.kind.lower()
            return Cause("precision", ONE_PASS if is_norm else "a formula that rounds more"), True
        found = exchanged.cause(value, back, self._links, theirs, ours, given.match)
        if found:
            return found, False
        operations = () if piece is None else tuple(piece[i].name for i in piece.order)
        if self._in_vain[operations, alone] < TRIES:
            found = given.first(layers.mistakes(given) if alone else pieces.mistakes(given))
            if found:
                return found, False
            self._in_vain[operations, alone] += 1
        if precision == "f64" and place.error < place.float32_budget > UNSTABLE_FROM * place.size:
            return Cause("precision", UNSTABLE), True
        return self._by_size(back, value, precision, place.verdict)

    def _by_size(
        self, ours: np.ndarray, theirs: np.ndarray, precision: str, verdict: str
    ) -> tuple[Cause, bool]:
        found = scale_or_rounding(ours, theirs, MATCHES[precision])
        narrowed = (
            verdict == FLOAT32_SIZED or precision != "f64"
        )  # a float64 run narrows nothing but constants
        if found is None or (found.family == "precision" and not narrowed):
            return UNKNOWN, False
        if found.family == "precision" and precision != "f64" and self._narrowed:
            found = Cause(found.family, f"{found.words}; Flax narrows at {', '.join(self._narrowed[:3])}")
        return found, found.family == "precision"

    def _elsewhere(self, theirs: Recording, key: Slot | str) -> list[tuple[str, np.ndarray]]:
        """Values of linked slots before a place, the last first, and then of those behind it."""
        linked = {one.torch for one in self._links}
        found: list[tuple[str, np.ndarray]] = []
        behind = False
        for other, passing in theirs.slots.items():
            behind = behind or other == key
            if other in linked and other != key:
                found.insert(len(found) if behind else 0, (other.words, passing.value))
        return found

    def _statistics_calls(self, wrong: Sequence[Place], theirs: Recording) -> frozenset[Call]:
        owners = {one.torch.rpartition(".")[0] for one in wrong if one.what == STATISTIC}
        return frozenset(call for call in theirs.order if call[0] in owners)

    def _of_statistic(
        self, place: Place, theirs: Recording, ours: Recording, watched: Recording, precision: str
    ) -> Cause:
        name = place.torch
        owner, _, leaf = name.rpartition(".")
        module: Any = self._side.module(owner)
        source = self._sources[place.flax]
        new = ours.state[place.flax]
        calls = [call for call in watched.arguments if call[0] == owner]
        if not isinstance(module, _BatchNorm) or len(calls) != 1 or source.names != (name,):
            return scale_or_rounding(new, source(theirs.state), MATCHES[precision]) or UNKNOWN
        (args, kwargs) = watched.arguments[calls[0]]
        x = args[0] if args else next(iter(kwargs.values()))
        old = self._before[name]
        if old.shape != new.shape:
            return scale_or_rounding(new, source(theirs.state)) or UNKNOWN
        return norms.of_statistic(module, x, old, new, leaf.rpartition("_")[2], MATCHES[precision])

    def _of_gradient(
        self, place: Place, slots: Any, theirs: Recording, ours: Recording, watched: Recording
    ) -> Cause:
        """A gradient that differs though the values don't."""
        if place.what == GRADIENT:
            b = ours.grads[place.flax]
            parts = self._sources[place.flax].gradients(theirs.grads, b)
            source, a = next(part for part in parts if " + ".join(part[0].names) == place.torch)
            start: Hashable = source.names[0]

            def way(grad: np.ndarray) -> np.ndarray:
                return source({**theirs.grads, source.names[0]: grad})

            padding = self._padding(source.names[0], a, b)
            if padding:
                return padding
        else:
            side = "out" if place.what == BETWEEN + BACKWARDS else "in"
            link = slots.get((place.torch, side, place.number))
            if link is None:
                return UNKNOWN
            grad, passing = theirs.slots[link.torch].grad, ours.slots[link.flax]
            if grad is None or passing.grad is None:
                return UNKNOWN
            start, way = link.torch, link.layout.grad
            a, b = way(grad), passing.grad
        return gradients.cause(watched.tape, start, self._cotangents(theirs), a, b, way)

    def _cotangents(self, theirs: Recording) -> dict[Hashable, np.ndarray]:
        """The gradients that arrive at pinned places and outputs."""
        found: dict[Hashable, np.ndarray] = {}
        found.update(self._arriving)
        for one in self._links:
            grad = theirs.slots[one.torch].grad
            if one.backwards and grad is not None:
                found[one.torch] = grad
        return found

    def _padding(self, name: str, theirs: np.ndarray, ours: np.ndarray) -> Cause | None:
        owner = name.rpartition(".")[0]
        module: Any = self._side.module(owner) if owner else None
        index = getattr(module, "padding_idx", None)
        if index is None or theirs.ndim != 2 or theirs.shape != ours.shape:
            return None
        rows = np.flatnonzero(np.abs(theirs - ours).max(1) > 1e-9 * np.abs(ours).max(initial=0))
        if rows.tolist() != [index]:
            return None
        words = f"the padding index {index} gets a gradient as an input in Flax, and none in PyTorch"
        return Cause("embedding", words)


def _of_loss(theirs: Recording, ours: Recording, precision: str) -> Cause:
    """Why losses differ."""
    assert theirs.loss is not None
    assert ours.loss is not None
    batch = next(iter(theirs.outputs.values())).shape[:1]
    ratio = ours.loss / theirs.loss if theirs.loss else np.inf
    for words, factor in (
        ("the sum over the batch of {} instead of the mean", np.prod(batch)),
        ("the mean over the batch of {} instead of the sum", 1 / np.prod(batch)),
    ):
        if batch != (1,) and abs(ratio - factor) <= MATCHES[precision] * factor:
            return Cause("loss", words.format(*batch))
    found = scale_or_rounding(np.asarray(ours.loss), np.asarray(theirs.loss), MATCHES[precision])
    if precision != "f64" and found and found.family == "precision":
        return found
    return Cause("loss", "the loss itself differs")
