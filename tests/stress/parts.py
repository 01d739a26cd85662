"""The parts of the campaign. A part is a module with `run(seconds, seed, **options) -> list[Row]`."""

from __future__ import annotations

import importlib
from typing import NamedTuple

from tests.stress.table import Row


class Part(NamedTuple):
    """A part of the campaign, which runs in a process of its own."""

    module: str
    minutes: float  # on one core: it tries as much as there is time for
    options: dict[str, str] = {}  # noqa: RUF012 (nobody changes it)

    def run(self, seconds: float, seed: int) -> list[Row]:
        """Run it: about so many seconds, its random choices drawn from a seed.

        Raises:
          AssertionError: if the product breaks a promise; says how to repeat it.
        """
        rows: list[Row] = importlib.import_module(self.module).run(seconds, seed, **self.options)
        return rows


# The long ones first, since two run at a time.
PARTS = {
    "kills-jax": Part("tests.stress.kills", 26, {"engine": "jax"}),
    "inputs": Part("tests.stress.inputs.campaign", 10),
    "kills-torch": Part("tests.stress.kills", 8, {"engine": "torch"}),
    "disks-jax": Part("tests.stress.disks", 16, {"engine": "jax"}),
    "disks-torch": Part("tests.stress.disks", 8, {"engine": "torch"}),
    "conversions": Part("tests.stress.conversions", 6),
    "power-jax": Part("tests.stress.power", 4, {"engine": "jax"}),
    "power-torch": Part("tests.stress.power", 2, {"engine": "torch"}),
    "signals": Part("tests.stress.signals", 4),
    "pairs-torch": Part("tests.stress.pairs", 1, {"engine": "torch"}),
    "pairs-jax": Part("tests.stress.pairs", 1, {"engine": "jax"}),
}
