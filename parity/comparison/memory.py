"""How much memory a comparison may use."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from parity.comparison.recording import Pins
from recipe.system.errors import UserError
from recipe.system.memory import give_back_freed_memory

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
LARGE = 2**28  # bytes of what a run is given


def free_memory() -> float:
    """Three quarters of the bytes that processes can still have."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    return 0.75 * 1024 * int(found.group(1)) if found else float(sys.maxsize)


def size(text: str) -> float:
    """ "8G" → 8·2³⁰ bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise UserError(f"--memory takes a size such as 8G or 500M, not {text!r}")
    return float(found[1]) * UNITS[found[2].upper()]


def make_room(tensors: Mapping[str, np.ndarray], pins: Pins | None) -> None:
    """Before a run of a large network, give back what the run before has freed, whose arrays had other sizes.

    A small one would pay more time for new pages than it saves memory.

    Args:
      tensors: that the run is given, and
      pins: likewise.
    """
    given = sum(array.nbytes for array in tensors.values())
    given += sum(pin.value.nbytes * (1 if pin.grad is None else 2) for pin in (pins or {}).values())
    if given > LARGE:
        give_back_freed_memory()
