"""`parity.compare` and its relatives."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from parity.comparison.flax_part import FlaxPart
from parity.comparison.pair import Pair
from parity.comparison.report import TITLES, CompareReport
from parity.comparison.run import Comparison
from parity.comparison.torch_part import TorchPart, settings_of
from parity.result import Check
from recipe.system.errors import UserError

ALL = tuple(TITLES)


def compare(
    torch_model: Any,
    flax_model: Any,
    inputs: Any,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    on_check: Callable[[Check], None] | None = None,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> CompareReport:
    """Whether a PyTorch module and a Flax module compute the same: see docs/compare.md.

    Args:
      torch_model: and
      flax_model: and
      inputs: and
      **settings: the fields of `Pair`.
      levels: 1 mapping, 2 evaluation forward, 3 training forward, 4 gradients, 5 an optimizer's update.
      memory: bytes that the captured values may take; three quarters of what is free by default.
      on_check: called with every check when it is done.
      progress: called with words on what runs.

    Raises:
      UserError: if the pair can't be compared, in one line.
    """
    return compare_pair(
        Pair(torch_model, flax_model, inputs, **settings), levels=levels, memory=memory, on_check=on_check,
        progress=progress,
    )  # fmt: skip


def compare_pair(
    pair: Pair,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    on_check: Callable[[Check], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompareReport:
    """`compare` for a `Pair`."""
    started = time.monotonic()
    chosen, say = chosen_levels(levels), progress or (lambda _: None)
    half = pair.torch_half
    torch = TorchPart(half, settings_of(half, chosen), say)
    flax = FlaxPart(pair.flax_half, torch, say)
    limit = free_memory() if memory is None else memory
    return _reported(Comparison(half, torch.side, torch, flax, chosen, limit, say), on_check, started)


def chosen_levels(levels: Iterable[int]) -> frozenset[int]:
    """Levels as a set.

    Raises:
      UserError: for one that does not exist.
    """
    chosen = frozenset(levels)
    if not chosen or not chosen <= TITLES.keys():
        raise UserError(f"levels are of {', '.join(map(str, TITLES))}, not {sorted(chosen)}")
    return chosen


def _reported(
    comparison: Comparison, on_check: Callable[[Check], None] | None, started: float
) -> CompareReport:
    checks = []
    for check in comparison.run():
        checks.append(check)
        if on_check:
            on_check(check)
    return comparison.report(checks, time.monotonic() - started)


def assert_same(torch_model: Any, flax_model: Any, inputs: Any, **settings: Any) -> CompareReport:
    """For pytest: `compare`, and an AssertionError whose message is the report if they are not the same.

    Args:
      torch_model: and
      flax_model: and
      inputs: and
      **settings: as for `compare`.

    Raises:
      AssertionError: if they differ.
      UserError: if they can't be compared.
    """
    from parity.comparison.text import render

    report = compare(torch_model, flax_model, inputs, **settings)
    if not report.passed:
        raise AssertionError("\n" + render(report))
    return report


def free_memory() -> float:
    """Three quarters of the bytes that processes can still have."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except OSError:
        found = None
    return 0.75 * 1024 * int(found.group(1)) if found else float(sys.maxsize)
