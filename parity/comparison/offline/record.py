"""The second step, where JAX is: all runs of the Flax network go into the folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from parity.comparison.flax_mode import FREE, PINNED, FlaxMode
from parity.comparison.flax_part import FlaxPart
from parity.comparison.halves import FlaxHalf
from parity.comparison.levels import modes_of
from parity.comparison.mapping.sources import as_gather
from parity.comparison.offline.folder import (
    DESCRIPTION,
    FLAX,
    LEVELS,
    NETWORK,
    REFUSED,
    UPDATES,
    VERSIONS,
    DescribedTorch,
    Refusals,
)
from parity.comparison.offline.parts import Writer, writing
from parity.comparison.recording import Recording
from recipe.system.files import expanded


def record(
    flax_model: Any, folder: str | Path, *, progress: Callable[[str], None] | None = None, **settings: Any
) -> None:
    """Run a Flax network as a description asks for; PyTorch is not needed.

    Args:
      flax_model: and
      **settings: the fields of `FlaxHalf`.
      folder: that `describe` wrote. What is recorded appears in it whole or not at all.
      progress: called with words on what runs.

    Raises:
      UserError: if the network can't be compared, or the folder holds no description.
    """
    record_half(FlaxHalf(flax_model, **settings), folder, progress=progress)


def record_half(half: FlaxHalf, folder: str | Path, *, progress: Callable[[str], None] | None = None) -> None:
    """`record` for a `FlaxHalf`."""
    folder, say = expanded(folder), progress or (lambda _: None)
    say(f"reading {folder}")
    torch = DescribedTorch(folder)
    levels, weights = torch.part.facts[LEVELS], torch.weights()
    part = FlaxPart(half, torch, say)
    mapped = part.network.mapped
    gathers = {path: as_gather(source, torch.structure.shapes) for path, source in mapped.sources.items()}
    network = dataclasses.replace(part.network, mapped=dataclasses.replace(mapped, sources=gathers))
    with writing(folder / FLAX) as writer:
        writer.write(NETWORK, network)
        modes, refused = modes_of(torch.settings.modes, levels), Refusals(say)
        for name in modes:
            with refused.around(name):
                theirs = torch.mode(weights, name == "train")
                _write_mode(writer, part.mode(weights, theirs), name, torch.settings.precisions, say)
                grads = theirs.run.grads
        refused.check(modes)
        if modes and 5 in levels and torch.settings.optimizer:
            say("updating by optax")
            writer.write(UPDATES, part.updated(weights, grads))
        writer.facts |= {
            DESCRIPTION: torch.part.checksum, VERSIONS: part.environment(), REFUSED: refused.found
        }  # fmt: skip


def _write_mode(
    writer: Writer, mode: FlaxMode, name: str, precisions: Sequence[str], say: Callable[[str], None]
) -> None:
    """Make and write all runs of a mode; how it runs freely in float64 is always needed."""
    runs = dict.fromkeys([(FREE, "f64"), *((way, p) for p in precisions for way in (FREE, PINNED))])
    for way, precision in runs:
        say(f"{name}, {precision}: running Flax, {way}")
        writer.write(f"{name}-{way}-{precision}", _needed(mode, mode.run(way, precision)))
    writer.write(name, dataclasses.replace(mode, described=_without_values(mode.described)))


def _without_values(described: Recording) -> Recording:
    """Shapes alone would be written as zeros."""
    return dataclasses.replace(described, slots={}, outputs={})


def _needed(mode: FlaxMode, run: Recording) -> Recording:
    """A run with the values that belong to one of PyTorch's."""
    linked = {one.flax for one in mode.links}
    return dataclasses.replace(run, slots={slot: p for slot, p in run.slots.items() if slot in linked})
