"""Functions with derivatives of their own, in float64 with these derivatives in float64.

Where a gradient is taken within the function that is run in float64, JAX has put the derivatives in place
before its program is seen. These rules are for gradients that are taken of what `in_float64` returns.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import ad_util
from jax.extend import core

from parity.comparison.float64.calls import Evaluator, again
from parity.comparison.float64.types import Jaxpr


def custom_jvp(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A call of a `jax.custom_jvp` function. Its first `num_consts` operands have no derivative."""
    if found := again(eqn.params["call_jaxpr"], ins):
        return found
    count = eqn.params["num_consts"]

    @jax.custom_jvp
    def call(*args: Any) -> list[Any]:
        return run.evaluate(eqn.params["call_jaxpr"], args)

    @call.defjvp
    def rule(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
        primals, tangents = primals[count:], tangents[count:]
        zeros = [not _is_float(x) for x in primals]
        jaxpr, consts, out_zeros = eqn.params["jvp_jaxpr_fun"].call_wrapped(*zeros)
        nonzero = [tangent for tangent, zero in zip(tangents, zeros, strict=True) if not zero]
        outs = run.evaluate(jaxpr, [*primals, *nonzero], consts)
        values, found = outs[: len(out_zeros)], iter(outs[len(out_zeros) :])
        return values, [_zero(x) if zero else next(found) for x, zero in zip(values, out_zeros, strict=True)]

    return call(*ins)


def custom_vjp(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A call of a `jax.custom_vjp` function, whose rules are traced with the dtypes that they expect."""
    p, count = eqn.params, eqn.params["num_consts"]
    in_avals: list[Any] = [atom.aval for atom in eqn.invars]
    out_avals: list[Any] = [v.aval for v in p["call_jaxpr"].outvars]

    @jax.custom_vjp
    def call(*args: Any) -> list[Any]:
        return run.evaluate(p["call_jaxpr"], args)

    def trace_forward() -> tuple[Jaxpr, list[Any], list[int | None]]:
        jaxpr, consts = p["fwd_jaxpr_thunk"].call_wrapped(*[True] * len(in_avals[count:]))
        return jaxpr, consts, p["out_trees"]()[2]

    def forward(*args: Any) -> tuple[list[Any], list[Any]]:
        jaxpr, consts, forwards = trace_forward()
        outs = run.evaluate(jaxpr, args[count:], consts)
        made = iter(outs[: len(outs) - len(out_avals)])  # a residual that is an argument is not among them
        residuals = [next(made) if source is None else args[source] for source in forwards]
        return outs[len(outs) - len(out_avals) :], residuals

    def backward(residuals: list[Any], cotangents: list[Any]) -> tuple[Any, ...]:
        jaxpr, _, forwards = trace_forward()
        made = (v.aval for v in jaxpr.outvars)
        avals: list[Any] = [next(made) if source is None else in_avals[source] for source in forwards]
        floats = [jnp.issubdtype(aval.dtype, np.inexact) for aval in out_avals]
        traced = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
        traced += [
            jax.ShapeDtypeStruct(a.shape, a.dtype) for a, f in zip(out_avals, floats, strict=True) if f
        ]

        def rule(*args: Any) -> list[Any]:
            given = iter(args[len(avals) :])
            outs = [next(given) if f else _zero(a) for a, f in zip(out_avals, floats, strict=True)]
            found = p["bwd"].call_wrapped(*args[: len(avals)], *outs)
            return [_instantiated(ct) for ct in (found[0] if isinstance(found, tuple) else found)]

        jaxpr = jax.make_jaxpr(rule)(*traced)
        given = [ct for ct, f in zip(cotangents, floats, strict=True) if f]
        found = run.evaluate(jaxpr, [*residuals, *given])
        return (None,) * count + tuple(
            ct if _is_float(aval) else None for ct, aval in zip(found, in_avals[count:], strict=True)
        )

    call.defvjp(forward, backward)
    return call(*ins)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, np.inexact)


def _zero(x: Any) -> Any:
    """The tangent of what does not change: zeros, or JAX's float0 of an integer."""
    return jnp.zeros(x.shape, x.dtype) if _is_float(x) else np.zeros(x.shape, jax.dtypes.float0)


def _instantiated(cotangent: Any) -> Any:
    """A cotangent as an array; those of integers, which nobody reads, as a zero."""
    if isinstance(cotangent, ad_util.Zero):
        aval: Any = cotangent.aval
        return jnp.zeros(aval.shape, aval.dtype if _is_float(aval) else bool)
    return cotangent
