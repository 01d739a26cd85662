"""Run any JAX function in float64, whatever dtypes its modules ask for.

The function is traced with float64 inputs, and the program that comes out is evaluated with every conversion
to a narrower float left out. Modules with `dtype=jnp.bfloat16`, an RMS norm that goes through float32,
BatchNorm's float32 statistics: all run in float64 without being touched. What can't be run so is refused in
words.

Two things stay as the program has them: numbers that it holds as float32 or bfloat16 arrays of its own, and
random draws (`draws_random` finds them), which are inputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import source_info_util
from jax.extend import core

from parity.comparison.float64 import literals, types
from parity.comparison.float64.calls import DRAWS
from parity.comparison.float64.rules import apply
from recipe.system.errors import UserError


def in_float64(fn: Callable[..., Any], narrowed: list[str] | None = None) -> Callable[..., Any]:
    """`fn` of trees of arrays, in float64 throughout: its floats come out as float64, complex as complex128.

    Integers, flags and random keys are as `fn` has them. Call it, and JAX's transformations of it, within
    `jax.enable_x64(True)`; gradients may be taken of `fn` or of the result.

    Args:
      fn: what to run. Its float arguments reach it as float64.
      narrowed: gets the place of each conversion that was left out, `file.py:123 (function)`, once, in order.

    Raises (when it is called):
      UserError: if x64 is off, or if a part of `fn` can't be run in float64 (a kernel or callback of float32,
        a float32's bits taken as an integer).
    """
    places = [] if narrowed is None else narrowed

    def run(*args: Any, **kwargs: Any) -> Any:
        if not jax.config.values["jax_enable_x64"]:
            raise UserError(
                "float64 is off in JAX: call what `in_float64` returns within `jax.enable_x64(True)`"
            )
        args, kwargs = jax.tree.map(_widen, (args, kwargs))
        jaxpr, shapes = _trace(fn, args, kwargs)
        leaves = jax.tree.leaves((args, kwargs))
        given = [_like(leaf, types.dtype_of(var)) for leaf, var in zip(leaves, jaxpr.invars, strict=True)]
        outs = _Float64(places).evaluate(jaxpr, given)
        return jax.tree.unflatten(jax.tree.structure(shapes), outs)

    return run


def _trace(fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[types.Jaxpr, Any]:
    """The jaxpr of `fn` and the shapes of its outputs' tree.

    Float64 inputs break loops whose carry starts as float32 whatever the inputs are (Flax's RNN cells); such
    functions are traced with float32 inputs, and if they make arrays of JAX's default dtype as well, without
    x64.
    """
    trace = jax.make_jaxpr(fn, return_shape=True)
    try:
        return trace(*args, **kwargs)
    except TypeError as error:
        narrow_args, narrow_kwargs = jax.tree.map(_halved, (args, kwargs))
        for x64 in (True, False):
            with contextlib.suppress(TypeError), jax.enable_x64(x64):
                return trace(*narrow_args, **narrow_kwargs)
        raise error from None


def _halved(leaf: Any) -> Any:
    """The shape of an array of 64 bits as one of 32."""
    halves = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}
    half = halves.get(str(getattr(leaf, "dtype", "")))
    return leaf if half is None else jax.ShapeDtypeStruct(leaf.shape, half)


def _like(leaf: Any, dtype: Any) -> Any:
    """An integer as a jaxpr takes it."""
    return jnp.asarray(leaf).astype(dtype) if jnp.issubdtype(dtype, np.integer) else leaf


def draws_random(fn: Callable[..., Any], *args: Any) -> list[str]:
    """Places where `fn` of `args` (trees of arrays) draws random numbers, each once, in order.

    Making, splitting and folding keys draws nothing.
    """
    draws = (
        types.place(eqns) for eqns in _nested(jax.make_jaxpr(fn)(*args)) if eqns[-1].primitive.name in DRAWS
    )
    return list(dict.fromkeys(draws))


def _nested(
    jaxpr: types.Jaxpr, within: tuple[core.JaxprEqn, ...] = ()
) -> Iterator[tuple[core.JaxprEqn, ...]]:
    """Every equation, behind those that it is within."""
    for eqn in jaxpr.eqns:
        yield (*within, eqn)
        for inner in types.jaxprs_in(eqn.params):
            yield from _nested(inner, (*within, eqn))


def _widen(leaf: Any) -> Any:
    """A value in float64 if it is an array of narrower floats. What has a value is converted at once."""
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not types.is_narrow(dtype):
        return leaf
    if isinstance(leaf, jax.core.Tracer):
        return jnp.astype(leaf, types.widened(dtype))
    return np.asarray(leaf).astype(types.widened(dtype))


class _Float64:
    """Evaluates jaxprs in float64. Every value has its variable's shape and that variable's widened dtype."""

    def __init__(self, narrowed: list[str]):
        self.narrowed = narrowed
        self.within: list[core.JaxprEqn] = []  # the equation at hand, behind those that it is within

    def left_out(self) -> None:
        """Note that the equation at hand would have narrowed its operand."""
        where = types.place(self.within)
        if where not in self.narrowed:
            self.narrowed.append(where)

    def refuse(self, why: str) -> NoReturn:
        """Raise a `UserError` that names the primitive and place of the equation at hand."""
        name = self.within[-1].primitive.name
        raise UserError(f"{name} in {types.place(self.within)} can't be run in float64: {why}")

    def evaluate(
        self, jaxpr: types.Jaxpr, args: Sequence[Any], consts: Sequence[Any] | None = None
    ) -> list[Any]:
        """The outputs of a jaxpr for `args` in widened dtypes; `consts` if they are not the jaxpr's own."""
        consts = getattr(jaxpr, "consts", ()) if consts is None else consts
        variables = [*jaxpr.constvars, *jaxpr.invars]
        env: dict[Any, Any] = dict(zip(variables, [*map(_widen, consts), *args], strict=True))

        for eqn in jaxpr.eqns:
            ins = [
                literals.digits(atom.val) if isinstance(atom, core.Literal) else env[atom]
                for atom in eqn.invars
            ]
            env.update(zip(eqn.outvars, self._equation(eqn, ins), strict=True))
        return [_widen(np.asarray(v.val)) if isinstance(v, core.Literal) else env[v] for v in jaxpr.outvars]

    def _equation(self, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
        """One equation's outputs. The program keeps its names and places, for XLA's and JAX's messages."""
        names = source_info_util.current_name_stack() + eqn.source_info.name_stack
        with source_info_util.user_context(eqn.source_info.traceback, name_stack=names), eqn.ctx.manager:
            self.within.append(eqn)
            outs = apply(self, eqn, ins)
            self._check(eqn, outs)
            self.within.pop()
        return outs

    def _check(self, eqn: core.JaxprEqn, outs: list[Any]) -> None:
        """Refuse outputs of other shapes and dtypes than must be: the net below the rules."""
        for variable, out in zip(eqn.outvars, outs, strict=True):
            aval: Any = variable.aval
            if hasattr(aval, "dtype") and (out.shape, out.dtype) != (aval.shape, types.widened(aval.dtype)):
                self.refuse(f"it makes {out.dtype}{list(out.shape)} of float64 operands")
