"""A small part of the campaign of damaged inputs: every reader, a few inputs each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from pathlib import Path

from tests.stress.inputs import campaign, sandbox

COUNT = 8  # inputs of each reader


def test_nothing_but_a_line_or_the_value_comes_of_damaged_inputs(tmp_path: Path):
    """In a process of its own, since the campaign forks."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        results = pool.submit(_read_some, tmp_path).result()
    assert set(results) == {reader.name for reader in campaign.READERS}
    assert set().union(*results.values()) == {"same", "other", "refused"}


def _read_some(keep: Path) -> dict[str, set[str]]:
    """The results that there are, by their reader."""
    return {
        reader.name: {one.result for one in sandbox.run(reader, 1, range(COUNT), keep)}
        for reader in campaign.READERS
    }
