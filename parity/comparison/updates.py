"""Level 5: the updates of a user's two optimizers, from the same weights and gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from parity.budgets.reference import distance, rounding
from parity.cause import Cause
from parity.comparison.findings import UPDATE, Place, place
from parity.comparison.mapping.sources import Sources
from parity.comparison.recording import Arrays

SUM = Cause(
    "mapping", "a sum in PyTorch, each part of which gets the whole gradient: it moves that much further"
)
FACTORS = (1.0, -0.5, 2.0)  # of the gradients, step by step: momentum and bias corrections show


def compare(sources: Sources, low: Arrays, exact: Arrays, ours: Arrays) -> Iterator[Place]:
    """Every parameter of Flax after three updates in float64.

    Args:
      sources: of Flax's parameters.
      low: PyTorch's parameters after the updates in float32.
      exact: and in float64.
      ours: Flax's in float64.
    """
    for path, source in sources.items():
        own = max(max(distance(low[n], exact[n], "f32"), rounding(exact[n], "f32")) for n in source.names)
        found = place(
            UPDATE, " + ".join(source.names), path, theirs=source(exact), ours=ours[path], own=(own, 0.0),
            precision="f64",
        )  # fmt: skip
        yield dataclasses.replace(found, cause=SUM) if found.failed and source.parts else found
