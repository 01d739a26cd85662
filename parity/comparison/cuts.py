"""Twins that end at different places: a batch norm that holds its activation beside one that does not.

Both the layer and what is behind it then differ, though together they compute the same. Such a cut is taken
away:
its pin is turned off, and the longer piece is judged as a whole. A cut stays away only if everything behind
it agrees then, so no mistake can hide: a real one shows at the next pin, and its cut comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from parity.comparison.links import Link
from parity.comparison.recording import Recording, Slot

Different = Callable[[frozenset[Slot]], Collection[tuple[str, object]]]  # slots that are off → what, where
GRAD = "grad"  # what differs is a gradient at a slot
Failing = Callable[[frozenset[Slot]], list[Link]]  # Flax's slots that are off → links whose values differ
ROUNDS = 6


def elsewhere(links: Sequence[Link], run: Recording, failing: Failing) -> frozenset[Slot]:
    """Flax's slots whose cut is at another place in PyTorch.

    Args:
      links: all links.
      run: PyTorch's, for the order of execution.
      failing: runs Flax and says which of the links that are on differ in float64.
    """
    calls = {call: i for i, call in enumerate(run.order)}

    def position(one: Link) -> tuple[int, int]:
        """Arguments arrive when a module starts, results when it ends: behind everything in it."""
        if one.torch.call not in calls:
            return len(calls), True  # an output of the network
        inside = [i for (path, _), i in calls.items() if path.startswith(f"{one.torch.path}.")]
        end = max([calls[one.torch.call], *inside]) if one.torch.side == "out" else calls[one.torch.call]
        return end, one.torch.side == "out"

    removed: set[Link] = set()
    before = failing(frozenset())
    for side in ("out", "in"):
        tried = {one for one in before if one.torch.side == side}
        for _ in range(ROUNDS):
            if not tried:
                break
            bad = failing(frozenset(one.flax for one in tried | removed))
            new = [one for one in bad if one not in before]
            culprits = {
                max(earlier, key=position)
                for one in new
                if (earlier := [r for r in tried if position(r) < position(one)])
            }
            if not culprits:
                if len(bad) < len(before) and not new:
                    removed |= tried
                    before = bad
                break
            tried -= culprits
    return frozenset(one.flax for one in removed)


def without_effect(off: frozenset[Slot], different: Different) -> frozenset[Slot]:
    """Flax's slots at which gradients differ, but nothing does where they are free to pass.

    A gradient may stop before a cut in one network and behind it in the other: that of a padding token, say.

    Args:
      off: slots that are off already.
      different: runs Flax with slots off and says what differs.
    """
    known = set(different(off))
    removed: frozenset[Slot] = frozenset()
    for what, slot in sorted(known, key=str)[:ROUNDS] if known else ():
        if what == GRAD and isinstance(slot, Slot):
            found = set(different(off | removed | {slot}))
            if found <= known - {(what, slot)}:
                removed |= {slot}
                known = found
    return removed
