"""A short selection of the campaign; `make stress` runs all of it."""

from __future__ import annotations

import pytest

from tests.stress.parts import PARTS

QUICK = {"kills-torch": 12, "kills-jax": 15, "disks-torch": 8, "pairs-torch": 3, "conversions": 5}  # seconds


@pytest.mark.parametrize("name", QUICK)
def test_a_few_faults(name: str):
    rows = PARTS[name].run(QUICK[name], seed=1)
    assert sum(row.tried for row in rows) > 0
