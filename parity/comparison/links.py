"""Which value of Flax belongs to which of PyTorch, at the twins' arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from parity.comparison.mapping.layouts import Layout, best, layouts
from parity.comparison.mapping.sources import Sources
from parity.comparison.mapping.twins import Twin
from parity.comparison.recording import Arrays, Call, Passing, Pin, Pins, Recording, Slot


class Link(NamedTuple):
    """A slot of PyTorch, the same of Flax, and the way from one's array to the other's."""

    torch: Slot
    flax: Slot
    layout: Layout
    inner: bool  # of a layer, not of a block
    backwards: bool = True  # whether the gradients that arrive there are the same


class Outputs(NamedTuple):
    """An output of PyTorch, the same of Flax, and the way between them."""

    torch: str
    flax: str
    layout: Layout


InputWays = dict[int, tuple[int, np.ndarray]]  # PyTorch's input → Flax's, and where its numbers come from


def candidates(twins: Iterable[Twin], of_t: Recording, of_f: Recording) -> list[tuple[Slot, Slot, bool]]:
    """All pairs of slots of twins whose shapes fit, and whether they are a layer's."""
    slots_t, slots_f = _by_call(of_t.slots), _by_call(of_f.slots)
    return [
        (a, b, twin.inner)
        for twin in twins
        for side in ("in", "out")
        for b in slots_f.get((twin.flax, side), ())
        for a in slots_t.get((twin.torch, side), ())
        if layouts(of_t.slots[a].value.shape, of_f.slots[b].value.shape)
    ]


def link(
    pairs: Iterable[tuple[Slot, Slot, bool]],
    of_t: Recording,
    of_f: Recording,
    sources: Sources,
    tensors: Arrays,
    reached: frozenset[Slot] = frozenset(),
) -> list[Link]:
    """One partner for every slot of Flax that has candidates: by value among several, else in order.

    Args:
      pairs: what `candidates` gave.
      of_t: PyTorch's run.
      of_f: Flax's, free and with the same weights and inputs.
      sources: of Flax's tensors; a linear layer's weight tells in which order its features come.
      tensors: PyTorch's.
      reached: slots of Flax at which gradients may arrive.
    """
    by_group: dict[tuple[Call, Call, str], list[tuple[Slot, Slot, bool]]] = {}
    for a, b, inner in pairs:
        by_group.setdefault((a.call, b.call, a.side), []).append((a, b, inner))
    found: list[Link] = []
    for group in by_group.values():
        options = []
        for position, (a, b, inner) in enumerate(group):
            theirs, ours = of_t.slots[a].value, of_f.slots[b].value
            same = theirs.shape == ours.shape
            order = _features(a, b, theirs.shape[-1], sources, tensors) if same and theirs.ndim else ()
            layout = (
                Layout(tuple(range(theirs.ndim)), ours.shape, order)
                if order
                else best(layouts(theirs.shape, ours.shape), theirs, ours)
            )
            error = float(np.abs(layout.value(theirs) - ours).max(initial=0))
            agrees = error < 1e-2 * float(np.abs(theirs).max(initial=0))
            options.append((not agrees, position, Link(a, b, layout, inner)))
        taken: set[Slot] = set()
        for _, _, option in sorted(options, key=lambda option: option[:2]):
            if option.torch not in taken and option.flax not in taken:
                taken |= {option.torch, option.flax}
                found.append(option)
    starts = {call: i for i, call in enumerate(of_t.order)}
    found = _with_one_entrance(found, of_t, reached)
    return sorted(found, key=lambda one: (starts[one.torch.call], one.torch.side, one.torch.number))


def _with_one_entrance(links: Sequence[Link], of_t: Recording, reached: Iterable[Slot]) -> list[Link]:
    """The links, without gradients at the arguments of calls that have another entrance in one network.

    Of `attention(c * x, x)` beside `attention(x)` only the sum of what comes back at both is the same.
    """
    linked_t, linked_f = {one.torch for one in links}, {one.flax for one in links}
    reached_t = (slot for slot, passing in of_t.slots.items() if passing.grad is not None)
    more_t, more_f = (
        {slot.call for slot in slots if slot.side == "in" and slot not in linked}
        for slots, linked in ((reached_t, linked_t), (reached, linked_f))
    )
    return [
        one._replace(
            backwards=one.layout.pins
            and not (one.torch.side == "in" and (one.torch.call in more_t or one.flax.call in more_f))
        )
        for one in links
    ]


def without_link(twins: Iterable[Twin], links: Iterable[Link], of_t: Recording, of_f: Recording) -> list[str]:
    """Results of twins whose shapes don't fit, in words."""
    linked = {one.flax for one in links}
    slots_t, slots_f = _by_call(of_t.slots), _by_call(of_f.slots)
    words = []
    for twin in twins:
        given_t, given_f = slots_t.get((twin.torch, "out"), []), slots_f.get((twin.flax, "out"), [])
        if given_t and given_f and not any(slot in linked for slot in given_f):
            shapes = [
                " and ".join(str(run.slots[s].value.shape) for s in slots)
                for run, slots in ((of_t, given_t), (of_f, given_f))
            ]
            words.append(
                f"{twin.torch[0]} gives {shapes[0]} in PyTorch, {twin.flax[0]} gives {shapes[1]} in Flax"
            )
    return words


def torch_pins(links: Iterable[Link], run: Recording) -> Pins:
    """What PyTorch's run says passes there."""
    return {
        one.torch: Pin(
            run.slots[one.torch].value, run.slots[one.torch].grad if one.backwards else None, one.backwards
        )
        for one in links
        if one.layout.pins
    }


def flax_pins(links: Iterable[Link], pins: Pins) -> Pins:
    """The same in Flax."""
    return {
        one.flax: Pin(
            one.layout.value(pins[one.torch].value),
            None if (grad := pins[one.torch].grad) is None else one.layout.grad(grad),
            one.backwards,
        )
        for one in links
        if one.torch in pins
    }


def input_ways(leaves_t: Sequence[Any], convert: Callable[[list[Any]], Sequence[Any]]) -> InputWays:
    """How gradients of PyTorch's float inputs go to Flax's, where those are the same numbers in another
    order.

    Args:
      leaves_t: PyTorch's inputs.
      convert: those → Flax's inputs.
    """
    floats = [i for i, x in enumerate(leaves_t) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    if not floats:
        return {}
    numbered = list(leaves_t)
    ends = np.cumsum([np.size(leaves_t[i]) for i in floats])
    for i, end in zip(floats, ends, strict=True):
        size = np.size(leaves_t[i])
        numbered[i] = np.arange(end - size, end, dtype=np.float64).reshape(np.shape(leaves_t[i]))
    try:
        found = convert(numbered)
    except Exception:  # what a stranger's function makes of other numbers; then there is no way
        return {}
    ways: InputWays = {}
    for j, x in enumerate(found):
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or not x.size:
            continue
        index = np.rint(x).astype(np.int64)
        k = int(np.searchsorted(ends, index.flat[0], "right"))
        if not np.array_equal(index, x) or k >= len(floats):
            continue
        start = ends[k] - np.size(leaves_t[floats[k]])
        local = index - start
        if np.array_equal(np.sort(local.ravel()), np.arange(np.size(leaves_t[floats[k]]))):
            ways[floats[k]] = j, local
    return ways


def _by_call(slots: Mapping[Slot, Passing]) -> dict[tuple[Call, str], list[Slot]]:
    found: dict[tuple[Call, str], list[Slot]] = {}
    for slot in slots:
        found.setdefault((slot.call, slot.side), []).append(slot)
    return found


def _features(a: Slot, b: Slot, features: int, sources: Sources, tensors: Arrays) -> tuple[int, ...]:
    """In which order Flax's linear layer takes PyTorch's features; () if in the same one.

    It is read off the weight's mapping: a flatten of channels first beside one of channels last.
    """
    source, name = sources.get(f"{b.path}.kernel"), f"{a.path}.weight"
    if a.side != "in" or source is None or source.names != (name,) or not source.moves:
        return ()
    weight = tensors[name]
    if weight.ndim != 2 or weight.shape[1] != features:
        return ()
    rows = source({name: np.broadcast_to(np.arange(features), weight.shape)})
    if rows.ndim != 2 or np.ptp(rows, axis=1).any() or np.array_equal(rows[:, 0], np.arange(features)):
        return ()
    return tuple(int(i) for i in rows[:, 0])
