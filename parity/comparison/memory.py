"""How much memory a comparison may use."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from recipe.system.errors import UserError

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


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
