"""The parts of the campaign. A part is a module with `run(seconds, seed, **options) -> list[Row]`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.stress.table import Row


class Part(NamedTuple):
    """A part of the campaign, which runs in a process of its own."""

    module: str
    minutes: float  # on one core: it tries as much as there is time for
    options: Mapping[str, Any] = MappingProxyType({})

    def run(self, seconds: float, seed: int) -> list[Row]:
        """Run it: about so many seconds, its random choices drawn from a seed.

        Raises:
          AssertionError: if the product breaks a promise; says how to repeat it.
        """
        rows: list[Row] = importlib.import_module(self.module).run(seconds, seed, **self.options)
        return rows


# The long ones first, since two run at a time.
PARTS: dict[str, Part] = {
    "inputs": Part("tests.stress.inputs.campaign", 10),
}
