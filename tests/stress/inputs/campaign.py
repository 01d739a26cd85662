"""The part of the campaign that damages what the programs read."""

from __future__ import annotations

import collections
import itertools
import tempfile
from pathlib import Path

from tests.stress.inputs import caches, checkpoints, comparison, datasets, runs, sandbox
from tests.stress.inputs.reader import Reader
from tests.stress.inputs.sandbox import Outcome
from tests.stress.table import Row

READERS: tuple[Reader, ...] = (
    *checkpoints.READERS, *datasets.READERS, *runs.READERS, *caches.READERS, *comparison.READERS,
)  # fmt: skip


def run(seconds: float, seed: int) -> list[Row]:
    """Damage the inputs of all readers for so long; see `sandbox.run`."""
    total = sum(reader.share for reader in READERS)
    keep = Path(tempfile.mkdtemp(prefix="damaged-"))
    rows = []
    for reader in READERS:
        outcomes = sandbox.run(reader, seed, itertools.count(), keep, seconds * reader.share / total)
        rows.append(Row(f"{reader.name}: damaged", len(outcomes), describe(reader, outcomes)))
    keep.rmdir()
    return rows


def describe(reader: Reader, outcomes: list[Outcome]) -> str:
    """What happened, each time."""
    counts = collections.Counter(one.result for one in outcomes)
    said = {
        "refused": "refused with one line",
        "same": "read as they were before",
        "other": "read as they are now",
    }
    return "; ".join(f"{counts[result]:,} {words}" for result, words in said.items() if counts[result])
