"""From two runs to findings: each layer and piece of a pinned run, each tensor of a free one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison.findings import (
    BACKWARDS,
    BETWEEN,
    GRADIENT,
    INPUT_GRADIENT,
    LAYER,
    LOSS,
    OUTPUT,
    STATISTIC,
    Place,
    place,
)
from parity.comparison.links import InputWays, Link, Outputs
from parity.comparison.mapping.sources import Source, Sources
from parity.comparison.recording import Key, Recording
from parity.comparison.reference import Own

Bound = Callable[[Key], np.ndarray | None]  # what is compared → what a theorem allows, in PyTorch's layout


class Judge:
    """What both runs of a mode have in common.

    Args:
      sources: of Flax's tensors.
      parameters: paths of Flax's parameters.
      outputs: which output is which.
      input_ways: by number of PyTorch's input: what `input_ways` gives.
    """

    def __init__(
        self,
        sources: Sources,
        parameters: Sequence[str],
        outputs: Sequence[Outputs],
        input_ways: InputWays,
    ):
        self._sources, self._parameters = sources, parameters
        self._outputs, self._inputs = outputs, input_ways

    def slots(
        self,
        theirs: Recording,
        ours: Recording,
        links: Sequence[Link],
        own: Own,
        precision: str,
        bound: Bound | None = None,
    ) -> Iterator[tuple[Link, Place]]:
        """The values and gradients that arrive at the links."""
        position = {call: i for i, call in enumerate(theirs.order)}
        for one in links:
            if one.flax not in ours.slots or one.torch not in theirs.slots:
                continue
            a, b = theirs.slots[one.torch], ours.slots[one.flax]
            common: dict[str, Any] = {
                "precision": precision, "kind": theirs.kinds[one.torch.path],
                "order": position[one.torch.call], "number": one.torch.number,
            }  # fmt: skip
            paths = one.torch.module, one.flax.module
            out = one.torch.side == "out"
            yield one, place(
                LAYER if out else BETWEEN, *paths, theirs=one.layout.value(a.value), ours=b.value,
                own=own.of(("value", one.torch)),
                bound=_carried(one.layout.value, bound, ("value", one.torch)), **common,
            )  # fmt: skip
            if a.grad is not None and b.grad is not None and one.backwards:
                yield one, place(
                    (BETWEEN if out else LAYER) + BACKWARDS, *paths, theirs=one.layout.grad(a.grad),
                    ours=b.grad, own=own.of(("grad", one.torch)),
                    bound=_carried(one.layout.grad, bound, ("grad", one.torch)), **common,
                )  # fmt: skip

    def outputs(
        self, theirs: Recording, ours: Recording, own: Own, precision: str, what: str = OUTPUT
    ) -> Iterator[Place]:
        """The network's outputs; pinned they are what is behind the last layer."""
        for one in self._outputs:
            yield place(
                what, _output(one.torch), _output(one.flax),
                theirs=one.layout.value(theirs.outputs[one.torch]), ours=ours.outputs[one.flax],
                own=own.of(("output", one.torch)), precision=precision, order=len(theirs.order),
            )  # fmt: skip
        if theirs.loss is not None and ours.loss is not None:
            yield place(
                LOSS, "loss", "loss", theirs=np.asarray(theirs.loss), ours=np.asarray(ours.loss),
                own=own.of(("loss",)), precision=precision, order=len(theirs.order),
            )  # fmt: skip

    def gradients(
        self, theirs: Recording, ours: Recording, own: Own, precision: str, bound: Bound | None = None
    ) -> Iterator[Place]:
        """Of every parameter that only moves, and of every input."""
        if not ours.grads:
            return
        starts = {path: i for i, (path, _) in reversed(list(enumerate(theirs.order)))}
        for path, source in self._sources.items():
            if path not in self._parameters or not source.learns:
                continue
            for part, grad in source.gradients(theirs.grads, ours.grads[path]):
                yield place(
                    GRADIENT, " + ".join(part.names), path, theirs=grad, ours=ours.grads[path],
                    own=own.of(*(("param", n) for n in part.names)),
                    bound=_gathered_bound(part, bound, "param"), precision=precision,
                    order=_position(part.names[0], starts),
                )  # fmt: skip
        for i, (j, index) in self._inputs.items():
            a, b = theirs.input_grads[i], ours.input_grads[j]
            if a is not None and b is not None:
                name = f"input {i}"
                yield place(
                    INPUT_GRADIENT, name, name, theirs=np.ravel(a)[index], ours=b, own=own.of(("input", i)),
                    precision=precision,
                )  # fmt: skip

    def statistics(
        self, theirs: Recording, ours: Recording, own: Own, precision: str, bound: Bound | None = None
    ) -> Iterator[Place]:
        """Running statistics after the pass."""
        starts = {path: i for i, (path, _) in reversed(list(enumerate(theirs.order)))}
        for path, source in self._sources.items():
            if path in self._parameters or path not in ours.state or not source.moves:
                continue
            if all(n in theirs.state for n in source.names):
                yield place(
                    STATISTIC, " + ".join(source.names), path, theirs=source(theirs.state),
                    ours=ours.state[path], own=own.of(*(("state", n) for n in source.names)),
                    bound=_gathered_bound(source, bound, "state"),
                    precision=precision, order=_position(source.names[0], starts),
                )  # fmt: skip


def _carried(way: Callable[[np.ndarray], np.ndarray], bound: Bound | None, key: Key) -> np.ndarray | None:
    """A bound in Flax's layout."""
    found = bound(key) if bound else None
    return None if found is None else way(found)


def _gathered_bound(source: Source, bound: Bound | None, what: str) -> np.ndarray | None:
    """The bound of a tensor of Flax, if there is one of every tensor that it is made of."""
    if bound is None:
        return None
    parts = {name: bound((what, name)) for name in source.names}
    known = {name: part for name, part in parts.items() if part is not None}
    return source(known) if len(known) == len(parts) else None


def _output(name: str) -> str:
    return name if name == "output" else f"output {name}"


def _position(tensor: str, starts: dict[str, int]) -> int:
    """When the module that owns a tensor, or holds its owner, starts."""
    path = tensor.rpartition(".")[0]
    while path and path not in starts:
        path = path.rpartition(".")[0]
    return starts.get(path, 0)
