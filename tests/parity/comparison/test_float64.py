"""Running functions in float64: what they are given and give, constants, random numbers, refusals."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive

from parity.comparison.float64 import literals
from parity.comparison.float64.evaluate import draws_random, in_float64
from recipe.system.errors import UserError
from tests.parity.comparison.float64_call_cases import forwards
from tests.parity.comparison.float64_helpers import HALF, close

X = np.random.default_rng(0).normal(size=(4, 6))


def with_constants(x: Any, dtype: Any) -> Any:
    y = x.astype(dtype)
    total = y * 0.1 + 0.044715 * y**3 + jnp.asarray(0.7, dtype) + jnp.array([0.3])[0].astype(dtype)
    return total, jax.nn.gelu(y), y / 10001, y * jnp.array(np.arange(6) + 1000, dtype), y * np.pi


def test_constants_keep_their_digits():
    actual = in_float64(partial(with_constants, dtype=jnp.float32))(X)
    close(actual, with_constants(X, jnp.float64), 1e-15)
    assert actual[0][0, 0] == X[0, 0] * 0.1 + 0.044715 * X[0, 0] ** 3 + 0.7 + 0.3


@HALF
def test_functions_that_were_traced_before_keep_them_too(dtype: Any):
    inner = jax.jit(lambda y: y * 0.1 + jax.nn.sigmoid(y))
    narrow = inner(X.astype(dtype))
    close(in_float64(lambda x: inner(x.astype(dtype)))(X), inner(X), 1e-15)
    np.testing.assert_array_equal(inner(X.astype(dtype)), narrow)  # and the program itself is as it was


def test_places_are_the_users_each_once_in_order():
    narrowed: list[str] = []

    def first(x: Any) -> Any:
        return x.astype(jnp.float32)

    def second(x: Any) -> Any:
        return lax.map(lambda row: first(first(row)).astype(jnp.bfloat16), x)

    in_float64(lambda x: second(second(x)) * 0.1 + jnp.asarray(0.3, jnp.bfloat16), narrowed)(X)
    line = first.__code__.co_firstlineno
    here = "test_places_are_the_users_each_once_in_order.<locals>"
    assert narrowed == [
        f"test_float64.py:{line + 1} ({here}.first)",
        f"test_float64.py:{line + 4} ({here}.second.<locals>.<lambda>)",
    ]


def test_trees_and_other_dtypes_pass_unchanged():
    def fn(tree: Any, key: Any, *, shift: Any) -> Any:
        return {**tree, "f": tree["f"] + shift, "key": key, "c": tree["c"] * 2, "none": None}

    key = jax.random.key(1)
    tree = {"i": np.int8([1]), "b": np.array([True]), "f": np.float32([0.1]), "c": np.complex64([1j])}
    out = jax.jit(in_float64(fn))(tree, key, shift=np.float16(0.5))
    assert {name: out[name].dtype for name in "ibfc"} == {
        **{"i": np.int8, "b": np.bool_, "f": np.float64, "c": np.complex128}
    }
    assert out["key"] == key
    assert out["none"] is None
    assert out["f"] == np.float64(np.float32(0.1)) + 0.5


def test_value_and_gradient_with_auxiliary_output():
    def fn(x: Any, dtype: Any) -> Any:
        y = x.astype(dtype)
        return (jnp.tanh(y * 0.1) ** 2).sum(), {"mean": y.mean(), "count": jnp.int32(3)}

    actual = jax.jit(in_float64(jax.value_and_grad(partial(fn, dtype=jnp.bfloat16), has_aux=True)))(X)
    close(actual, jax.value_and_grad(partial(fn, dtype=jnp.float64), has_aux=True)(X))


def test_arrays_of_the_program_are_data():
    """A float32 array that the function holds is what it is; its digits are not made up."""
    held = X.astype(np.float32)
    close(
        in_float64(lambda x: x.astype(jnp.float32) * held + jnp.asarray(held))(X),
        X * held.astype(float) + held,
    )


@jax.custom_vjp
def narrow_backwards(x: Any) -> Any:
    return jnp.sin(x)


narrow_backwards.defvjp(
    lambda x: (jnp.sin(x), jnp.cos(x)), lambda cos, ct: (ct * cos.astype(jnp.float32).astype(jnp.float64),)
)


def test_derivatives_that_narrow_where_their_function_does_not():
    def loss(x: Any) -> Any:
        return jax.jit(lambda x: lax.map(narrow_backwards, x))(x).sum()

    close(jax.grad(in_float64(loss))(X), np.cos(X))
    close(in_float64(jax.grad(loss))(X), np.cos(X))


def test_programs_without_narrow_floats_stay_as_they_are():
    fn = partial(forwards, dtype=jnp.float64)
    plain, run = jax.make_jaxpr(fn)(X), jax.make_jaxpr(in_float64(fn))(X)
    assert len(run.eqns) == len(plain.eqns)


# ---- random numbers


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.normal(key, (9,), jnp.float32),
        lambda key: jax.random.normal(key, (9,), jnp.bfloat16),
        lambda key: jax.random.truncated_normal(key, -2, 2, (9,), jnp.float32),
        lambda key: jax.random.uniform(key, (9,), jnp.float32, -1, 1),
        lambda key: jax.vmap(lambda key: jax.random.gumbel(key, (3,), jnp.float32))(jax.random.split(key, 3)),
        lambda key: jax.random.gamma(key, 2.0, (9,), jnp.float32),
        lambda key: jax.random.randint(key, (9,), 0, 100),
        lambda key: jax.random.bits(key, (9,), "uint8"),
    ],
)
def test_draws_are_the_programs_own(draw: Callable[[Any], Any]):
    key = jax.random.key(3)
    expected, actual = draw(key), jax.jit(in_float64(draw))(key)
    assert actual.dtype == (jnp.float64 if jnp.issubdtype(expected.dtype, jnp.floating) else expected.dtype)
    np.testing.assert_array_equal(actual, expected.astype(actual.dtype))


def test_draws_that_depend_on_floats_have_the_same_bits():
    def draw(x: Any) -> Any:
        return jax.random.uniform(jax.random.key(3), (4, 6), jnp.float32, x.astype(jnp.float32), 9)

    actual = in_float64(draw)(X)
    np.testing.assert_allclose(actual, draw(X), rtol=1e-5)
    bits = jax.random.uniform(jax.random.key(3), (4, 6), jnp.float32).astype(float)
    close(actual, bits * (9 - X) + X, 1e-15)


def test_draws_are_found_wherever_they_are():
    def draw(key: Any) -> Any:
        return jax.random.normal(key, (2,))

    def draws(x: Any, key: Any) -> Any:
        return lax.cond(x.sum() > 0, lambda: jax.jit(draw)(key), lambda: jnp.zeros(2))

    def keys(x: Any, key: Any) -> Any:
        return x, jax.random.split(jax.random.fold_in(key, 1))

    (place,) = draws_random(draws, X, jax.random.key(0))
    assert place.startswith(f"test_float64.py:{draw.__code__.co_firstlineno + 1} (")
    assert draws_random(keys, X, jax.random.key(0)) == []


# ---- what is refused


def float32_bits(x: Any) -> Any:
    return lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)


def callback(x: Any) -> Any:
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, jnp.float32), x.astype(jnp.float32))


def kernel(x: Any) -> Any:
    def body(x_ref: Any, o_ref: Any) -> None:
        o_ref[...] = x_ref[...] * 2

    return pl.pallas_call(body, out_shape=jax.ShapeDtypeStruct(x.shape, jnp.float32), interpret=True)(
        x.astype(jnp.float32)
    )


def foreign(x: Any) -> Any:
    return jax.ffi.ffi_call("other", jax.ShapeDtypeStruct(x.shape, jnp.int32))(x.astype(jnp.float32))


def partitioned(x: Any) -> Any:
    sine = custom_partitioning(jnp.sin)
    sine.def_partition(partition=lambda *args: args, sharding_rule="i -> i")
    return sine(x.astype(jnp.float32))


def gamma_of_the_program(x: Any) -> Any:
    return jax.random.gamma(jax.random.key(0), jnp.exp(x.astype(jnp.float32)), dtype=jnp.float32)


unknown_p = Primitive("unknown")
unknown_p.def_abstract_eval(lambda x, *, dtype: x.update(dtype=np.dtype(dtype)))


def unknown(x: Any) -> Any:
    return unknown_p.bind(x, dtype=jnp.float32)


def sinc(x: Any) -> Any:
    return jnp.sinc(x.astype(jnp.float32))


REFUSED = {
    float32_bits: ("bitcast_convert_type", "the bits of a narrower float"),
    callback: ("pure_callback", "calls Python"),
    kernel: ("pallas_call", "a kernel for narrower floats"),
    foreign: ("ffi_call", "a kernel for narrower floats"),
    partitioned: ("custom_partitioning", "a kernel for narrower floats"),
    gamma_of_the_program: ("random_gamma", "draws depend on a float"),
    unknown: ("unknown", "no primitive of JAX's own"),
    sinc: ("", "JAX's sinc has another method"),
}


@pytest.mark.parametrize("fn", REFUSED)
def test_refusals_name_primitive_and_place(fn: Callable[[Any], Any]):
    with pytest.raises(UserError) as error:
        in_float64(lambda x: lax.map(fn, x))(X)
    primitive, why = REFUSED[fn]
    assert str(error.value).startswith(primitive)
    assert " in test_float64.py:" in str(error.value)
    assert f"({fn.__name__}) can't be run in float64: " in str(error.value)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_in_the_function_is_told_as_it_is():
    with pytest.raises(TypeError, match="float64"):
        in_float64(lambda x: lax.add(x, np.int32(1)))(X)


def test_float64_must_be_on():
    with jax.enable_x64(False), pytest.raises(UserError, match="enable_x64"):
        in_float64(jnp.sin)(X)


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (np.float32(0.1), 0.1), (np.float32(1e-12), 1e-12), (np.float32(48**-0.5), 48**-0.5),
        (np.float32(-np.sqrt(2 / np.pi)), -np.sqrt(2 / np.pi)), (np.float32(0.25), 0.25),
        (np.float32(np.pi / 180), np.pi / 180), (np.float32(np.sqrt(np.pi) / 2), np.sqrt(np.pi) / 2),
        (ml_dtypes.bfloat16(0.1), 0.1), (ml_dtypes.bfloat16(0.044715), 0.044715), (np.float32(0), 0.0),
    ],
)  # fmt: skip
def test_a_rounded_constant_gets_the_digits_that_it_had(number: Any, digits: float):
    assert literals.digits(number) == pytest.approx(digits, rel=1e-15, abs=0)


def test_an_array_keeps_the_digits_that_it_has():
    table = np.float32([0.1, 0.2])
    np.testing.assert_array_equal(literals.digits(table), table.astype(np.float64))
