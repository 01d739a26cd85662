"""`parity.compare` and its relatives."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from parity.comparison.flax_part import FlaxPart
from parity.comparison.halves import FlaxHalf, Recorded, TorchHalf
from parity.comparison.levels import ALL, chosen_levels
from parity.comparison.memory import free_memory
from parity.comparison.offline.judging import Judging, settings_in
from parity.comparison.pair import Pair
from parity.comparison.report import CompareReport
from parity.comparison.run import Comparison
from parity.comparison.torch_part import TorchPart, settings_of
from parity.result import Check
from recipe.system.files import expanded


def compare(
    torch_model: Any,
    flax_model: Any,
    inputs: Any = None,
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
      **settings: the fields of `Pair`. With `flax_model=parity.Recorded(folder)` those of `TorchHalf`;
        what is not given, inputs too, is as it was described.
      levels: 1 mapping, 2 evaluation forward, 3 training forward, 4 gradients, 5 an optimizer's update.
      memory: bytes that the captured values may take; three quarters of what is free by default.
      on_check: called with every check when it is done.
      progress: called with words on what runs.

    Raises:
      UserError: if the pair can't be compared, in one line.
    """
    common: dict[str, Any] = {
        "levels": levels, "memory": memory, "on_check": on_check, "progress": progress
    }  # fmt: skip
    if isinstance(flax_model, Recorded):
        given = settings if inputs is None else {"inputs": inputs, **settings}
        half = TorchHalf(torch_model, **{**settings_in(expanded(flax_model.folder)), **given})
        return compare_recorded(half, flax_model.folder, **common)
    return compare_pair(Pair(torch_model, flax_model, inputs, **settings), **common)


def compare_recorded(
    half: TorchHalf,
    folder: str | os.PathLike[str],
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    on_check: Callable[[Check], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompareReport:
    """`compare` for a PyTorch half and the recorded runs of Flax."""
    started = time.monotonic()
    chosen, say = chosen_levels(levels), progress or (lambda _: None)
    say(f"reading {folder}")
    given = Judging(half, expanded(folder), chosen)
    limit = free_memory() if memory is None else memory
    comparison = Comparison(half, given.side, given.torch, given.flax, chosen, limit, say)
    return _reported(comparison, on_check, started)


def compare_pair(
    pair: Pair,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    on_check: Callable[[Check], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompareReport:
    """`compare` for a `Pair`."""
    return compare_halves(
        pair.torch_half, pair.flax_half, levels=levels, memory=memory, on_check=on_check, progress=progress
    )


def compare_halves(
    half: TorchHalf,
    flax_half: FlaxHalf,
    *,
    levels: Iterable[int] = ALL,
    memory: float | None = None,
    on_check: Callable[[Check], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CompareReport:
    """`compare` for both halves of a pair."""
    started = time.monotonic()
    chosen, say = chosen_levels(levels), progress or (lambda _: None)
    limit = free_memory() if memory is None else memory
    return _reported(prepared(half, flax_half, chosen, limit, say), on_check, started)


def prepared(
    half: TorchHalf,
    flax_half: FlaxHalf,
    levels: frozenset[int],
    memory: float,
    progress: Callable[[str], None],
) -> Comparison:
    """The comparison of both halves, whose checks `run` makes one by one."""
    torch = TorchPart(half, settings_of(half, levels), progress)
    flax = FlaxPart(flax_half, torch, progress)
    return Comparison(half, torch.side, torch, flax, levels, memory, progress)


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
    report = compare(torch_model, flax_model, inputs, **settings)
    if not report.passed:
        raise AssertionError(f"\n{report}")
    return report
