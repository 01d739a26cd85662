"""Two modules of one kind that have each other's tensors: each then runs where the other should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.cause import Cause, is_close
from parity.comparison.links import Link
from parity.comparison.recording import Recording, Slot


def cause(
    value: np.ndarray, back: np.ndarray, links: Sequence[Link], theirs: Recording, ours: Recording,
    match: float,
) -> Cause | None:  # fmt: skip
    """The exchange that explains a value, if there is one.

    What arrives has to be what PyTorch has at another module of the same kind, and both modules have to run
    in the opposite order in Flax.

    Args:
      value: PyTorch's at the place.
      back: Flax's, in PyTorch's layout.
      links: between the runs.
      theirs: PyTorch's run.
      ours: Flax's.
      match: how close numbers have to be.
    """
    inner = [one for one in links if one.inner]

    def with_value(array: np.ndarray) -> list[Link]:
        return [one for one in inner if is_close(theirs.slots[one.torch].value, array, match)]

    arriving = with_value(back)
    for right in with_value(value) if arriving else ():
        for wrong in arriving:
            a, b = right.torch, wrong.torch
            if a.path == b.path or a.side != b.side or theirs.kinds[a.path] != theirs.kinds[b.path]:
                continue
            if _before(theirs, a, b) != _before(ours, right.flax, wrong.flax):
                first, second = sorted((a.path, b.path))
                return Cause("mapping", f"{first} and {second} have each other's tensors in Flax")
    return None


def _before(run: Recording, a: Slot, b: Slot) -> bool:
    return run.order.index(a.call) < run.order.index(b.call)
