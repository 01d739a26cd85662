"""One mode of the Flax network: what belongs to what of PyTorch's, where the two are cut, and its runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from parity.budgets.reference import UNIT, K, distance
from parity.comparison import cuts, links, refusals
from parity.comparison.inputs import Arguments
from parity.comparison.links import InputWays, Link, Outputs
from parity.comparison.mapping import twins
from parity.comparison.mapping.layouts import best, layouts
from parity.comparison.mapping.sources import Sources
from parity.comparison.recording import Arrays, Pin, Pins, Recording, Slot, endless
from parity.comparison.torch_mode import TorchMode
from parity.comparison.weights import rounded_pins
from recipe.system.errors import UserError

FREE, PINNED = "free", "pinned"


@dataclasses.dataclass(frozen=True)
class FlaxMode:
    """Everything that a comparison has to know of Flax in one mode.

    Attributes:
      described: the order of calls, dropouts, and what can't be looked into.
      twins: modules that own the same tensors.
      odd: what is odd about them, in words.
      links: which slot of Flax belongs to which of PyTorch.
      outputs: which output belongs to which.
      elsewhere: Flax's slots whose cut is at another place in PyTorch; they are not pinned.
      narrowed: where Flax converts to narrower floats; runs in float64 left that out.
      run: (FREE or PINNED, precision) → that run.
    """

    described: Recording
    twins: list[twins.Twin]
    odd: list[str]
    links: list[Link]
    outputs: list[Outputs]
    elsewhere: frozenset[Slot]
    narrowed: list[str]
    run: Callable[[str, str], Recording]


class FlaxRuns:
    """Runs the Flax network in one mode, freely and with the values of PyTorch's run.

    Args:
      side: the `FlaxSide`.
      tensors: precision → its tensors.
      inputs: its arguments.
      theirs: PyTorch's run.
      sources: of its tensors.
      rough: PyTorch's tensors.
      owned: of both networks, PyTorch's first: module path → names of all float tensors in it.
      input_ways: how gradients of PyTorch's inputs go to Flax's.
      progress: told what runs.
    """

    def __init__(
        self,
        side: Any,
        tensors: Callable[[str], Arrays],
        inputs: Arguments,
        theirs: TorchMode,
        sources: Sources,
        rough: Arrays,
        owned: tuple[twins.Owned, twins.Owned],
        input_ways: InputWays,
        progress: Callable[[str], None],
    ):
        self._input_ways = input_ways
        self._side, self._tensors, self._inputs, self._mode = side, tensors, inputs, theirs
        self._theirs, self._sources = theirs.run, sources
        progress(f"{theirs.name}: tracing Flax")
        with refusals.running(f"in {theirs.name} mode the Flax network"):
            described = side.describe(inputs, theirs.training)
        found, odd = twins.find(sources, *owned, self._theirs.order, described.order, described.unused)
        refusals.of_twins(found, described, theirs.name)
        self._keep = frozenset(twin.flax[0] for twin in found)
        progress(f"{theirs.name}: compiling and running Flax in float64")
        pairs = links.candidates(found, self._theirs, described)
        # pins of the right shapes, which are off: their layouts are not known yet
        self._places: Pins = {b: Pin(np.zeros(described.slots[b].value.shape), None) for _, b, _ in pairs}
        self._pair_outputs(described)
        self._free = self._run(FREE, "f64")
        if self._pair_outputs(self._free):
            self._free = self._run(FREE, "f64")
        narrowed = list(side.narrowed)
        self._links = links.link(pairs, self._theirs, self._free, sources, rough, described.reached)
        self._free = self._free.without_slot_gradients()  # end to end nobody asks for them
        self._never = frozenset(self._places) - {one.flax for one in self._links if one.layout.pins}
        self._pins = links.torch_pins(self._links, self._theirs)
        self._judged: dict[frozenset[Slot], dict[tuple[str, object], Link | None]] = {}
        off = cuts.elsewhere(self._links, self._theirs, self._failing)
        self._off = off | cuts.without_effect(off, self._different)
        self.found = FlaxMode(
            described, found, odd, self._links, self._outputs, self._off, narrowed, self.run
        )

    def run(self, way: str, precision: str) -> Recording:
        """A run, free or with the pins that are kept."""
        if (way, precision) == (FREE, "f64"):
            return self._free
        if way == FREE:
            return self._run(FREE, precision)
        return self._pinned(precision, self._off)

    def _pinned(self, precision: str, off: frozenset[Slot]) -> Recording:
        given = links.flax_pins(self._links, rounded_pins(self._pins, precision))
        return self._run(PINNED, precision, off | self._never, given)

    def _run(
        self, way: str, precision: str, off: frozenset[Slot] = frozenset(), pins: Pins | None = None
    ) -> Recording:
        """One program for all runs of a precision: pins are arguments, and may be off.

        A network whose layers also do what is behind them has one more, for free runs in lower precisions,
        so that these run as the network does; the free run in float64 says what belongs to what.
        """
        return self._side.run(
            self._tensors(precision), self._inputs, precision, self._mode.training,
            pins=self._places | (pins or {}), off=frozenset(self._places) if way == FREE else off,
            keep=self._keep, cotangents=self._cotangents, fused=way == FREE and precision != "f64",
        )  # fmt: skip

    def _pair_outputs(self, ours: Recording) -> bool:
        """Pair the outputs, and say whether their values changed what their shapes said."""
        theirs = self._theirs
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
        self._cotangents: list[np.ndarray] | None = None
        if self._mode.cotangents is not None:
            cotangents = dict(zip(a, self._mode.cotangents, strict=True))
            by_flax = {one.flax: one.layout.value(cotangents[one.torch]) for one in pairs}
            self._cotangents = [by_flax[name] for name in b]
        return changed

    def _failing(self, off: frozenset[Slot]) -> list[Link]:
        """Links that are on, and outputs, whose values differ."""
        return [one for (what, _), one in self._different(off).items() if one and what != cuts.GRAD]

    def _different(self, off: frozenset[Slot]) -> dict[tuple[str, object], Link | None]:
        """What differs by so much that float32 would show it, with slots off → at which link, if at one."""
        if off in self._judged:
            return self._judged[off]
        ours, theirs = self._pinned("f64", off), self._theirs
        found: dict[tuple[str, object], Link | None] = {}
        self._judged[off] = found
        for one in self._links:
            if one.flax in off or one.flax not in ours.slots:
                continue
            a, b = theirs.slots[one.torch], ours.slots[one.flax]
            if _far(one.layout.value(a.value), b.value):
                found["value", one.flax] = one
            grads = a.grad is not None and b.grad is not None and one.backwards
            if grads and _far(one.layout.grad(a.grad), b.grad):  # type: ignore[arg-type]
                found[cuts.GRAD, one.flax] = one
        for end in self._outputs:
            if _far(end.layout.value(theirs.outputs[end.torch]), ours.outputs[end.flax]):
                slots = Slot(end.torch, 0, "in", 0), Slot(end.flax, 0, "in", 0)
                found["output", end.flax] = Link(*slots, end.layout, inner=False)
        for path, source in self._sources.items():
            if path not in ours.grads or not source.learns:
                continue
            own = ours.grads[path]
            if any(_far(grad, own) for _, grad in source.gradients(theirs.grads, own)):
                found["parameter", path] = None
        for i, (j, index) in self._input_ways.items():
            given, mine = theirs.input_grads[i], ours.input_grads[j]
            if given is not None and mine is not None and _far(np.ravel(given)[index], mine):
                found["input", i] = None
        return found


def _far(theirs: np.ndarray, ours: np.ndarray) -> bool:
    theirs, ours = endless(theirs), endless(ours)
    size = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0))
    return not distance(ours, theirs, "f64") <= K * UNIT["f32"] * size
