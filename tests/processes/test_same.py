"""Processes that are about to do different things are refused."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipe.data import Dataset
from recipe.processes.world import World
from recipe.system.errors import UserError
from recipe.training import same
from recipe.training.description import describe_run
from tests.processes.test_watch import Store


def check_together(*given: tuple[Any, Dataset]) -> list[str]:
    """What each of several processes says, which have these runs and data."""
    store = Store()
    said = [""] * len(given)

    def check(index: int) -> None:
        try:
            same.check(World(index, len(given), store), *given[index])
        except UserError as error:
            said[index] = str(error)

    threads = [threading.Thread(target=check, args=(index,)) for index in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


def test_equal_processes_are_let_through(config: Any, data: Dataset, tmp_path: Path):
    run = describe_run(config, data, tmp_path)
    elsewhere = dataclasses.replace(run, workdir=tmp_path / "other")
    assert check_together((run, data), (elsewhere, data), (run, data)) == ["", "", ""]


def test_another_config_is_named_by_all(config: Any, data: Dataset, tmp_path: Path):
    run = describe_run(config, data, tmp_path)
    config.optimizer.lr = 0.03
    other = describe_run(config, data, tmp_path)
    said = check_together((run, data), (run, data), (other, data))
    assert len(set(said)) == 1
    assert "process 2 of 3 has another config.optimizer.lr than process 0: 0.03, not 0.02" in said[0]


def test_where_a_host_has_its_data_may_differ(config: Any, data: Dataset, tmp_path: Path):
    run = describe_run(config, data, tmp_path)
    config.data.dir = "/elsewhere"
    assert check_together((run, data), (describe_run(config, data, tmp_path), data)) == ["", ""]


def test_one_other_pixel_is_other_data(config: Any, data: Dataset, tmp_path: Path):
    run = describe_run(config, data, tmp_path)
    images = data.train_images.copy()
    images[3, 2, 1, 0] ^= np.uint8(1)
    said = check_together((run, data), (run, dataclasses.replace(data, train_images=images)))
    assert all("another data (SHA-256)" in words for words in said)


def test_other_code_is_refused(config: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = describe_run(config, data, tmp_path)
    digests = iter(("a", "b"))
    monkeypatch.setattr(same, "digest_of_code", lambda engine: next(digests))
    assert all("another code (SHA-256)" in words for words in check_together((run, data), (run, data)))
