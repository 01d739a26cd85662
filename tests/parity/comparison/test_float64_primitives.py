"""Functions that work in float32 and bfloat16, run in float64: primitive by primitive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.numpy import ufuncs

from parity.comparison.float64.evaluate import in_float64
from recipe.system.errors import UserError
from tests.parity.comparison import float64_array_cases, float64_call_cases  # noqa: F401  they enter their cases
from tests.parity.comparison.float64_helpers import CASES, HALF, WITH_GRADIENT, close, widened

X = np.random.default_rng(0).normal(size=(4, 6))


def scalar(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A number that depends on all of a function's float outputs, to take gradients of."""

    def total(x: Any) -> Any:
        outs = [out for out in jax.tree.leaves(fn(x)) if jnp.issubdtype(out.dtype, jnp.inexact)]
        return sum(jnp.sum(jnp.sin(jnp.abs(out).astype(jnp.float64))) for out in outs)

    return total


@HALF
@pytest.mark.parametrize("name", CASES)
def test_primitives_run_in_float64(name: str, dtype: Any):
    case, narrowed = CASES[name], []
    actual = jax.jit(in_float64(partial(case, dtype=dtype), narrowed))(X)
    close(actual, jax.jit(partial(case, dtype=jnp.float64))(X))
    assert narrowed
    with pytest.raises(AssertionError):  # the case does narrow
        close(widened(case(X, dtype)), case(X, jnp.float64), 1e-9)


@pytest.mark.parametrize("name", WITH_GRADIENT)
def test_gradients_of_primitives(name: str):
    case = CASES[name]
    expected = jax.jit(jax.grad(scalar(partial(case, dtype=jnp.float64))))(X)
    within = jax.jit(in_float64(jax.grad(scalar(partial(case, dtype=jnp.float32)))))(X)
    outside = jax.jit(jax.grad(scalar(in_float64(partial(case, dtype=jnp.float32)))))(X)
    close(within, expected, 1e-12)
    close(outside, expected, 1e-12)


def functions(module: Any, names: list[str]) -> dict[str, Callable[..., Any]]:
    """The public functions of a module among `names`."""
    found = {f"{module.__name__}.{name}": getattr(module, name, None) for name in names if name[0] != "_"}
    return {name: fn for name, fn in found.items() if callable(fn) and not isinstance(fn, type)}


FUNCTIONS = {
    **functions(jnp, dir(ufuncs)),
    **functions(jax.nn, dir(jax.nn)),
    **functions(jax.scipy.special, dir(jax.scipy.special)),
}
REFUSED = {
    *("sinc", "dawsn", "erfcinv", "erfcx", "exp1", "expi", "expn", "fresnel", "hyp1f1", "hyp2f1"),
    *("i1", "i1e", "ndtri", "sici", "spence", "spacing", "frexp", "wofz", "owens_t"),
}


def total_of(fn: Callable[..., Any], x: Any, *rest: Any) -> Any:
    return scalar(lambda x: fn(x, *rest))(x)


def as_float32(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: fn(*(jnp.asarray(x, jnp.float32) for x in args))


@pytest.mark.heavy
@pytest.mark.parametrize("gradient", [False, True], ids=["value", "gradient"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_jax_are_right_or_refused(name: str, gradient: bool):
    """Some choose their method by dtype: a newer JAX may have more of these."""
    positive = jnp.abs(X) * 0.9 + 0.05
    for count in (1, 2, 3):
        args, fn = (positive, positive[::-1], positive[:, ::-1])[:count], FUNCTIONS[name]
        if gradient:
            fn = jax.grad(partial(total_of, fn))
        try:
            expected = fn(*args)
            as_float32(fn)(*args)
        except (TypeError, ValueError, NotImplementedError, AttributeError):
            continue  # takes other arguments, or has no gradient
        if not all(isinstance(out, jax.Array) for out in jax.tree.leaves(expected)):
            continue
        try:
            close(in_float64(as_float32(fn))(*args), expected, 1e-12)
        except UserError:
            assert name.rpartition(".")[2] in REFUSED
