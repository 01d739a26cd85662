"""What the tests of float64 share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

Case = Callable[[Any, Any], Any]
CASES: dict[str, Case] = {}
WITH_GRADIENT: list[str] = []
HALF = pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])


def widened(tree: Any) -> Any:
    """The same tree with its floats as float64, and its complex numbers as complex128."""

    def widen(x: Any) -> Any:
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            return x.astype(jnp.complex128)
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(widen, tree)


def close(actual: Any, expected: Any, limit: float = 1e-13) -> None:
    """Assert the same trees, dtypes and values, but for `limit` of the largest value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        np.testing.assert_allclose(a, e, rtol=0, atol=limit * max(1, np.abs(e).max()))


def case(gradient: bool = True) -> Callable[[Case], Case]:
    """Enter a function that computes with `x` as `dtype`, and whether its gradients are worth comparing."""

    def enter(function: Case) -> Case:
        CASES[function.__name__] = function
        if gradient:
            WITH_GRADIENT.append(function.__name__)
        return function

    return enter
