"""A short selection of the campaign; `make stress` runs all of it."""

from __future__ import annotations

import pytest

from tests.stress.parts import PARTS


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("kills-torch", 8),
        ("disks-torch", 8),
        pytest.param("kills-jax", 15, marks=pytest.mark.heavy),
        pytest.param("pairs-torch", 3, marks=pytest.mark.heavy),
        pytest.param("conversions", 5, marks=pytest.mark.heavy),
    ],
)
def test_a_few_faults(name: str, seconds: float):
    rows = PARTS[name].run(seconds, seed=1)
    assert sum(row.tried for row in rows) > 0
