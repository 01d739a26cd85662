"""The native kernels, built once into a cache that tests share; all checks skip where they can't be had."""

from __future__ import annotations

import pytest

from flax_resnet.cpu_kernels.build import load


@pytest.fixture(scope="session", autouse=True)
def native() -> None:
    why_not = load()
    if why_not:
        pytest.skip(f"no native kernels: {why_not}")
