"""The reader of the folder between the steps of an offline comparison."""

from __future__ import annotations

from pathlib import Path

import parity
from parity.comparison.offline.folder import DescribedTorch, RecordedFlax
from tests.parity.comparison import small
from tests.stress.inputs.reader import Reader, fingerprint


def _make(folder: Path) -> None:
    parity.describe(
        small.torch_mlp(), small.inputs(), folder / "x", levels=(1, 2), precisions=("f64",), modes=("eval",)
    )
    parity.record(small.FlaxMLP(), folder / "x")


def _read(folder: Path) -> str:
    torch = DescribedTorch(folder / "x")
    flax = RecordedFlax(folder / "x", torch)
    weights = torch.weights()
    theirs = torch.mode(weights, training=False)
    ours = flax.mode(weights, theirs)
    runs = [theirs.run, *(ours.run(way, "f64") for way in ("free", "pinned"))]
    return fingerprint(
        [str(torch.settings), weights.fine, *(run.outputs for run in runs), flax.environment()]
    )


READERS = (Reader("folder of an offline comparison", _make, _read),)
