"""The judging of one mode of a pair, eval or train: what both networks' free and pinned runs show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.budgets.reference import lower
from parity.comparison import links, unseen
from parity.comparison.bounds import Bounds
from parity.comparison.causes.explain import Explainer
from parity.comparison.findings import BACKWARDS, BETWEEN, EQUAL, LESS_EXACT, LOSS, OUTPUT, STATISTIC, Place
from parity.comparison.flax_mode import FREE, PINNED, FlaxMode
from parity.comparison.judge import Bound, Judge
from parity.comparison.recording import Call, Errors, Pins, Recording
from parity.comparison.reference import Own, Reference
from parity.comparison.torch_mode import TorchMode
from parity.comparison.weights import rounded_pins
from parity.result import Check

if TYPE_CHECKING:
    from parity.comparison.run import Comparison

FOLLOWS = "follows from what is allowed"
UNITS = {"f64": "largest element", "f32": "largest element", "bf16": "relative norm"}


class ModeComparison:
    """One mode of a pair, eval or train.

    Args:
      comparison: what both modes have in common.
      theirs: PyTorch's free run.
      ours: Flax's runs.
    """

    def __init__(self, comparison: Comparison, theirs: TorchMode, ours: FlaxMode):
        c = self._c = comparison
        self._theirs, self._ours, self._training, self._mode = theirs, ours, theirs.training, theirs.name
        self._forward_level = 3 if theirs.training else 2
        network = c.flax.network
        constants = c.weights.rough.keys() - network.mapped.used
        self._reference = Reference(
            c.side, c.weights, frozenset(constants), c.torch.inputs, theirs.training,
            c.torch.settings.seed, theirs.cotangents,
        )  # fmt: skip
        self._judge = Judge(network.mapped.sources, network.parameters, ours.outputs, network.input_ways)
        self._kept = [one for one in ours.links if one.flax not in ours.elsewhere]
        kept = {one.torch for one in self._kept}
        pins = links.torch_pins(ours.links, theirs.run)
        self._pins = {slot: pin for slot, pin in pins.items() if slot in kept}
        self._keep = frozenset(twin.torch[0] for twin in ours.twins)
        self._own_errors: dict[Any, Errors] = {}
        self._known: list[Place] = []  # places with a cause
        self._alone: list[Place] = []  # that differ when every layer and piece is on its own
        self._same_in_f64: set[tuple[str, str, str, int]] = set()

    def run(self) -> Iterator[Check]:
        """All checks of this mode."""
        c, mode, theirs, ours = self._c, self._mode, self._theirs.run, self._ours
        if not self._training and self._forward_level in c.levels:
            on = unseen.dropouts_in_eval(theirs, ours.described)
            if on:
                yield Check(2, "eval: no dropout is on", "exact", "differences", c.allow(on))
        c.notes += [f"{mode}: {words}" for words in unseen.notes(theirs, ours)]
        free = ours.run(FREE, "f64")
        c.unseen += [
            f"{mode}: {words}"
            for words in unseen.unseen(theirs, ours, free, c.torch.structure, c.flax.network)
        ]
        for precision in c.precisions:
            yield from self._pieces(precision)
            yield from self._end_to_end(precision)

    def _pieces(self, precision: str) -> Iterator[Check]:
        """Every layer and piece on its own: both networks with the same pins."""
        c, mode = self._c, self._mode
        c.progress(f"{mode}, {precision}: PyTorch's own errors")
        own = self._own(precision, self._pins)
        c.progress(f"{mode}, {precision}: every layer and piece on its own")
        a, b = self._pinned(precision)
        found = self._compared(a, b, self._kept, own, precision, BETWEEN, self._bound(a, precision))
        found = self._explained(self._cleared(found, precision), a, b, precision)
        yield from self._checks(found, precision, PINNED, "every layer and piece on its own")

    def _end_to_end(self, precision: str) -> Iterator[Check]:
        """Both networks as they are."""
        self._c.progress(f"{self._mode}, {precision}: end to end")
        own = self._own(precision, None)
        results = [one for one in self._kept if one.torch.side == "out"]
        found = self._compared(*self._free(precision), results, own, precision, OUTPUT)
        found = [dataclasses.replace(one, free=True) for one in found if not one.what.endswith(BACKWARDS)]
        yield from self._checks(self._cleared(found, precision), precision, FREE, "end to end")

    # ------------------------------------------------------------------ runs
    def _free(self, precision: str) -> tuple[Recording, Recording]:
        theirs = self._theirs.run
        if precision != "f64":
            theirs = self._reference.run(precision, precision, keep=self._keep)
        return theirs, self._ours.run(FREE, precision)

    def _pinned(self, precision: str) -> tuple[Recording, Recording]:
        """Both sides with the same pins. In float64 PyTorch's free run has those values anyway."""
        theirs = self._theirs.run
        if precision != "f64":
            exact = "bf16" if precision == "bf16" else "f64"  # bfloat16 is compared with bfloat16, in norms
            theirs = self._reference.run(
                precision, exact, pins=rounded_pins(self._pins, precision), keep=self._keep
            )
        return theirs, self._ours.run(PINNED, precision)

    def _own(self, precision: str, pins: Pins | None) -> Own:
        low = lower(precision)
        key = low, pins is None
        if key not in self._own_errors:
            self._own_errors[key] = self._reference.own_errors(low, pins=pins, keep=self._keep)
        constants: Errors = {}
        if precision == "f64":
            constants = self._reference.constant_errors(self._theirs.run, pins=pins, keep=self._keep)
        return Own(self._own_errors[key], constants, norms=precision == "bf16")

    # ------------------------------------------------------------------ judging
    def _compared(
        self, theirs: Recording, ours: Recording, of: Sequence[links.Link], own: Own, precision: str,
        outputs: str, bound: Bound | None = None,
    ) -> list[Place]:  # fmt: skip
        """All places of two runs; the network's outputs are compared as `outputs`."""
        found = [place for _, place in self._judge.slots(theirs, ours, of, own, precision, bound)]
        found += self._judge.outputs(theirs, ours, own, precision, outputs)
        found += self._judge.gradients(theirs, ours, own, precision, bound)
        if self._training:
            found += self._judge.statistics(theirs, ours, own, precision, bound)
        return found

    def _excused(self, free: tuple[Place, ...]) -> tuple[Place, ...]:
        """What differs end to end because of what is allowed, if nothing else differs on its own."""
        allowed = [one for one in self._alone if one.reason]
        if not allowed or any(one.failed for one in self._alone):
            return free
        return tuple(dataclasses.replace(one, reason=FOLLOWS) if one.failed else one for one in free)

    def _cleared(self, found: list[Place], precision: str) -> list[Place]:
        """Places with what float64 said of them, pinned or free."""
        if precision == "f64":
            same = {one.key for one in found if one.verdict in (EQUAL, LESS_EXACT)}
            self._same_in_f64 |= same
            return found
        return [dataclasses.replace(one, cleared=one.key in self._same_in_f64) for one in found]

    def _explained(
        self, found: list[Place], theirs: Recording, ours: Recording, precision: str
    ) -> list[Place]:
        """Places with causes: float64's, or in a lower precision where float64 found no difference."""
        known = {one.key: one for one in self._known}
        again = [known.get(one.key) for one in found]
        found = [
            dataclasses.replace(one, cause=before.cause, guess=before.guess)
            if before and before.cause and one.verdict != EQUAL else one
            for one, before in zip(found, again, strict=True)
        ]  # fmt: skip
        new = [one for one in found if one.verdict != EQUAL and one.cause is None]
        if new:
            c = self._c
            c.progress(f"{self._mode}, {precision}: looking for the causes of {len(new)} differences")

            def watched(calls: frozenset[Call]) -> Recording:
                return self._reference.watched(precision, self._pins, self._keep, calls)

            explainer = Explainer(
                c.side, c.flax.network.mapped.sources, self._kept, self._ours.outputs, watched,
                c.weights.of(precision), self._training, self._ours.narrowed, self._arriving(),
            )  # fmt: skip
            explained = iter(explainer.explain(new, theirs, ours, precision))
            found = [next(explained) if one in new else one for one in found]
        self._known += [one for one in found if one.cause]
        return found

    def _arriving(self) -> dict[str, np.ndarray]:
        """Gradients of PyTorch's outputs; a loss has its own, which are not known."""
        cotangents = self._theirs.cotangents
        if cotangents is None or self._c.torch.settings.loss:
            return {}
        return dict(zip(self._theirs.run.outputs, cotangents, strict=True))

    def _bound(self, theirs: Recording, precision: str) -> Bound | None:
        """What theorems allow at known layers; they say nothing of bfloat16."""
        if precision == "bf16":
            return None
        return Bounds(self._c.side, theirs, self._pins, self._training, precision)

    def _checks(self, found: list[Place], precision: str, way: str, title: str) -> Iterator[Check]:
        c, mode = self._c, self._mode
        backwards = [one for one in found if one.backwards or one.what == LOSS]
        statistics = [one for one in found if one.what == STATISTIC]
        forwards = [one for one in found if not one.backwards and one.what not in (LOSS, STATISTIC)]
        for level, name, places in (
            (self._forward_level, f"{mode}: {title}", forwards),
            (self._forward_level, f"{mode}: running statistics, {way}", statistics),
            (4, f"{mode}: gradients, {title}", backwards),
        ):
            if places and level in c.levels:
                ordered = c.allow(sorted(places, key=lambda one: one.order))
                if way == FREE:
                    ordered = self._excused(ordered)
                elif level != 4:
                    self._alone += [one for one in ordered if one.failed or one.reason]
                yield Check(level, name, precision, UNITS[precision], ordered)
