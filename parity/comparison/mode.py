"""One mode of a pair, eval or train: free runs and pinned runs of both networks, and what they show."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.budgets.reference import lower
from parity.cause import Cause
from parity.comparison import cuts, links, refusals
from parity.comparison.bounds import of_layer
from parity.comparison.causes.explain import Explainer
from parity.comparison.findings import (
    BACKWARDS,
    BETWEEN,
    DIFFERENT,
    DROPOUT,
    EQUAL,
    LESS_EXACT,
    LOSS,
    OUTPUT,
    STATISTIC,
    Place,
    exact,
)
from parity.comparison.judge import Bound, Judge, Outputs, input_ways
from parity.comparison.mapping import mapping as maps
from parity.comparison.mapping.layouts import best, layouts
from parity.comparison.recording import Call, Pins, Recording, Slot
from parity.comparison.reference import Errors, rounded_pins
from parity.result import Check
from recipe.system.errors import UserError

if TYPE_CHECKING:
    from parity.comparison.run import Comparison

FOLLOWS = "follows from what is allowed"
UNITS = {"f64": "largest element", "f32": "largest element", "bf16": "relative norm"}


class ModeComparison:
    """One mode of a pair, eval or train."""

    def __init__(self, comparison: Comparison, training: bool):
        self._c, self._training = comparison, training
        self._mode = "train" if training else "eval"
        self._forward_level = 3 if training else 2
        self._gradients = comparison.reference.gradients
        self._own_errors: dict[Any, Errors] = {}
        self._known: list[Place] = []  # places with a cause
        self._alone: list[Place] = []  # that differ when every layer and piece is on its own
        self._same_in_f64: set[tuple[str, str, str]] = set()

    def run(self) -> Iterator[Check]:
        """All checks of this mode."""
        c, mode = self._c, self._mode
        c.progress(f"{mode}: running PyTorch in float64")
        first, second = (c.reference.outputs(self._training, seed) for seed in (0, 1))
        refusals.of_randomness(first, second, mode)
        c.reference.draw_cotangents(first.outputs)
        del second
        self.theirs = c.reference.run("f64", "f64", self._training)
        refusals.of_outputs(self.theirs)
        c.check_memory(self.theirs)
        c.progress(f"{mode}: tracing Flax")
        described = c.flax.describe(c.flax_inputs, self._training)
        self._twins, odd = maps.twins_of(c.mapped, c.torch, c.flax, self.theirs, described)
        if not self._training:
            yield from self._dropout_check(described)
        self._note_dropouts(described)
        refusals.of_twins(self._twins, described, mode)
        self._keep_t = frozenset(twin.torch[0] for twin in self._twins)
        self._keep_f = frozenset(twin.flax[0] for twin in self._twins)
        free = self._run_freely(described)
        self._list_unseen(odd, described, free)
        off = self._other_ends()
        kept = [one for one in self.links if one.flax not in off]
        self.kept = kept
        pins_t = {slot: pin for slot, pin in self._pins_t.items() if slot in {one.torch for one in kept}}
        for precision in c.pair.precisions:
            low = lower(precision)
            c.progress(f"{mode}, {precision}: PyTorch's own errors")
            own = self._own(low, pins_t)
            c.progress(f"{mode}, {precision}: every layer and piece on its own")
            theirs, ours = self._pinned(precision, off, pins_t)
            found = self._compared(
                theirs, ours, kept, own, precision, BETWEEN, self._bound(theirs, precision)
            )
            found = self._cleared(found, precision)
            found = self._explained(found, theirs, ours, precision, pins_t)
            yield from self._checks(found, precision, "pinned", "every layer and piece on its own")
            c.progress(f"{mode}, {precision}: end to end")
            own = self._own(low, None)
            theirs, ours = self._free(precision)
            results = [one for one in kept if one.torch.side == "out"]
            found = self._compared(theirs, ours, results, own, precision, OUTPUT)
            found = [one for one in found if not one.what.endswith(BACKWARDS)]
            yield from self._checks(self._cleared(found, precision), precision, "free", "end to end")

    # ------------------------------------------------------------------ runs
    def _run_freely(self, described: Recording) -> Recording:
        """Flax on its own in float64; it fixes what belongs to what."""
        c = self._c
        pairs = links.candidates(self._twins, self.theirs, described)
        provisional: Pins = {}
        for a, b, _ in pairs:
            way = layouts(self.theirs.slots[a].value.shape, described.slots[b].value.shape)[0]
            passing = self.theirs.slots[a]
            provisional[b] = links.Pin(way.value(passing.value), None)
        self._pinned_f = frozenset(provisional)
        self._pins_f: Pins = provisional
        self._pair_outputs(described)
        c.progress(f"{self._mode}: compiling and running Flax in float64")
        free = self._run_f("f64", self._pinned_f, "f64")
        if self._pair_outputs(free):
            free = self._run_f("f64", self._pinned_f, "f64")
        self.links = links.link(pairs, self.theirs, free, c.mapped.sources, c.reference.rough)
        self._never = self._pinned_f - {one.flax for one in self.links if one.layout.pins}
        self._pins_t = links.torch_pins(self.links, self.theirs)
        self._free_f64 = free
        return free

    def _pair_outputs(self, ours: Recording) -> bool:
        """Pair the outputs, and say whether their values changed what their shapes said."""
        c, theirs = self._c, self.theirs
        a, b = list(theirs.outputs), list(ours.outputs)
        names = a if set(a) == set(b) else b
        if len(a) != len(b):
            raise UserError(refusals.outputs(theirs.outputs, ours.outputs))
        pairs = []
        for x, y in zip(a, names, strict=True):
            ways = layouts(theirs.outputs[x].shape, ours.outputs[y].shape)
            if not ways:
                raise UserError(refusals.outputs(theirs.outputs, ours.outputs))
            pairs.append(Outputs(x, y, best(ways, theirs.outputs[x], ours.outputs[y])))
        changed = pairs != getattr(self, "_outputs", pairs)
        self._outputs = pairs
        cotangents = dict(zip(a, c.reference.cotangents or (), strict=True))
        by_flax = {one.flax: one.layout.value(cotangents[one.torch]) for one in pairs}
        self._cotangents_f = [by_flax[name] for name in b] if self._gradients else None
        ways_in = input_ways(c.inputs.leaves, c.flax_leaves)
        self._judge = Judge(c.mapped.sources, c.flax.parameters, pairs, ways_in)
        return changed

    def _run_f(
        self, precision: str, off: frozenset[Slot], weights: str, pins: Pins | None = None
    ) -> Recording:
        c = self._c
        given = self._pins_f | (pins or {})
        return c.flax.run(
            c.mapped.carry(c.reference.tensors(weights), c.own), c.flax_inputs, precision, self._training,
            pins=given, off=off, keep=self._keep_f, cotangents=self._cotangents_f,
        )  # fmt: skip

    def _free(self, precision: str) -> tuple[Recording, Recording]:
        c = self._c
        if precision == "f64":
            return self.theirs, self._free_f64
        theirs = c.reference.run(precision, precision, self._training, keep=self._keep_t)
        return theirs, self._run_f(precision, self._pinned_f, precision)

    def _pinned(self, precision: str, off: frozenset[Slot], pins_t: Pins) -> tuple[Recording, Recording]:
        """Both sides with the same pins. In float64 PyTorch's free run has those values anyway."""
        c = self._c
        if precision == "f64":
            theirs, pins = self.theirs, pins_t
        else:
            pins = rounded_pins(pins_t, precision)
            exact = "bf16" if precision == "bf16" else "f64"  # bfloat16 is compared with bfloat16, in norms
            theirs = c.reference.run(precision, exact, self._training, pins=pins, keep=self._keep_t)
        pins_f = links.flax_pins(self.links, pins)
        return theirs, self._run_f(precision, off | self._never, precision, pins_f)

    def _own(self, low: str, pins: Pins | None) -> Errors:
        key = (low, None if pins is None else frozenset(pins))
        if key not in self._own_errors:
            found = self._c.reference.own_errors(low, self._training, pins=pins, keep=self._keep_t)
            self._own_errors[key] = found
        return self._own_errors[key]

    # ------------------------------------------------------------------ judging
    def _compared(
        self, theirs: Recording, ours: Recording, of: Sequence[links.Link], own: Errors, precision: str,
        outputs: str, bound: Bound | None = None,
    ) -> list[Place]:  # fmt: skip
        """All places of two runs; the network's outputs are compared as `outputs`."""
        found = [place for _, place in self._judge.slots(theirs, ours, of, own, precision, bound)]
        found += self._judge.outputs(theirs, ours, own, precision, outputs)
        found += self._judge.gradients(theirs, ours, own, precision)
        if self._training:
            found += self._judge.statistics(theirs, ours, own, precision)
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
        self, found: list[Place], theirs: Recording, ours: Recording, precision: str, pins: Pins
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
                return c.reference.side.run(
                    c.reference.tensors(precision), c.inputs, "f64", self._training,
                    pins=rounded_pins(pins, precision), keep=self._keep_t, watch=calls,
                )  # fmt: skip

            explainer = Explainer(
                c.torch, c.mapped.sources, self.kept, self._outputs, watched, c.reference.tensors(precision),
                self._training, c.flax.narrowed,
            )  # fmt: skip
            explained = iter(explainer.explain(new, theirs, ours, precision))
            found = [next(explained) if one in new else one for one in found]
        self._known += [one for one in found if one.cause]
        return found

    def _other_ends(self) -> frozenset[Slot]:
        """Cuts that are at another place in the other network."""
        own = self._own("f32", self._pins_t)

        def failing(off: frozenset[Slot]) -> list[links.Link]:
            theirs, ours = self._pinned("f64", off, self._pins_t)
            on = [one for one in self.links if one.flax not in off]
            found = self._judge.slots(theirs, ours, on, own, "f64")
            return [
                one
                for one, place in found
                if place.verdict == DIFFERENT and not place.what.endswith(BACKWARDS)
            ]

        removed = cuts.elsewhere(self.links, self.theirs, failing)
        names = dict.fromkeys(one.torch.path for one in self.links if one.flax in removed)
        if names:
            self._c.notes.append(
                f"{self._mode}: ends at another place than its counterpart, so it is judged together with "
                f"what is behind it: {refusals.listed(names)}"
            )
        return removed

    def _bound(self, theirs: Recording, precision: str) -> Bound | None:
        """What theorems allow at the results of known layers, in Flax's layout."""
        if precision == "bf16":
            return None
        by_slot = {one.torch: one for one in self.links}

        def bound(slot: Slot) -> np.ndarray | None:
            found = of_layer(self._c.torch.module(slot.path), theirs, slot, self._training, precision)
            return None if found is None else by_slot[slot].layout.value(found)

        return bound

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
                if way == "free":
                    ordered = self._excused(ordered)
                elif level != 4:
                    self._alone += [one for one in ordered if one.failed or one.reason]
                yield Check(level, name, precision, UNITS[precision], ordered)

    # ------------------------------------------------------------------ what was not looked at
    def _list_unseen(self, odd: list[str], described: Recording, free: Recording) -> None:
        c, mode = self._c, self._mode
        unseen = [*odd, *links.without_link(self._twins, self.links, self.theirs, free)]
        unseen += [f"{path} of Flax {why}" for path, why in described.opaque.items()]
        called_t, called_f = ({path for path, _ in run.order} for run in (self.theirs, described))
        for who, owned, called in (
            ("PyTorch", c.torch.owned(), called_t),
            ("Flax", c.flax.owned(), called_f),
        ):
            idle = [p for p, names in owned.items() if p and names and p not in called]
            idle = [p for p in idle if not any(q != p and q.startswith(f"{p}.") for q in owned if owned[q])]
            if idle:
                unseen.append(
                    f"never called as modules in {who}, so part of what is around them: "
                    f"{refusals.listed(idle)}"
                )
        for path, source in c.mapped.sources.items():
            arrays = [free.grads.get(path, 1), *(self.theirs.grads.get(n, 0) for n in source.names)]
            if self._gradients and not any(np.any(array) for array in arrays):
                unseen.append(f"{path}: these inputs give it no gradient on either side")
        c.unseen += [f"{mode}: {words}" for words in unseen]

    def _dropout_check(self, described: Recording) -> Iterator[Check]:
        """Dropouts that are on in eval mode; comparisons leave them out."""
        found = []
        for who, run in (("PyTorch", self.theirs), ("Flax", described)):
            for path, rate in dict.fromkeys(run.dropouts):
                words = f"dropout of rate {rate:g} is on in eval mode in {who}"
                paths = (path, "") if who == "PyTorch" else ("", path)
                found.append(exact(DROPOUT, *paths, Cause("dropout", words)))
        if found and self._forward_level in self._c.levels:
            yield Check(2, "eval: no dropout is on", "exact", "differences", self._c.allow(found))

    def _note_dropouts(self, described: Recording) -> None:
        c, mode = self._c, self._mode
        theirs, ours = ([d.rate for d in run.dropouts] for run in (self.theirs, described))
        if sorted(theirs) != sorted(ours):
            c.notes.append(
                f"{mode}: dropout was left out; active were {_rates(theirs)} in PyTorch, "
                f"{_rates(ours)} in Flax"
            )


def _rates(rates: Sequence[float]) -> str:
    if not rates:
        return "none"
    return ", ".join(f"{rates.count(rate)} of rate {rate:g}" for rate in dict.fromkeys(rates))
