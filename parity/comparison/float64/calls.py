"""How calls, loops and branches are evaluated in float64, and which calls draw random numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol

import jax
import jax.numpy as jnp
from jax.extend import core

from parity.comparison.float64 import types

DRAWS = {
    *("random_bits", "threefry2x32", "threefry4x32", "philox2x32", "philox4x32"),
    *("rng_bit_generator", "rng_uniform", "random_gamma"),
}


class Evaluator(Protocol):
    """What a rule needs of the evaluation that it is part of."""

    def left_out(self) -> None:
        """Note that the equation at hand would have narrowed its operand."""

    def refuse(self, why: str) -> NoReturn:
        """Raise a `UserError` that names the primitive and place of the equation at hand."""

    def evaluate(
        self, jaxpr: types.Jaxpr, args: Sequence[Any], consts: Sequence[Any] | None = None
    ) -> list[Any]:
        """The outputs of a jaxpr for `args` in widened dtypes."""


def bind(eqn: core.JaxprEqn, ins: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """The outputs of an equation's primitive, of any number."""
    outs = eqn.primitive.bind(*ins, **params)
    return list(outs) if eqn.primitive.multiple_results else [outs]


# ---- calls


def inline(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A call of a jaxpr, in its caller. XLA does that with calls anyway."""
    (jaxpr,) = types.jaxprs_in(eqn.params)
    return run.evaluate(jaxpr, ins)


def jit(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A jitted call: JAX's own draws as they are, its functions of a float's bits for a float64's."""
    jaxpr = eqn.params["jaxpr"]
    if found := again(jaxpr, ins):
        return found
    return _draw(eqn, ins) if _is_draw(eqn) else inline(run, eqn, ins)


def again(jaxpr: types.Jaxpr, ins: list[Any]) -> list[Any] | None:
    """The outputs of a function of JAX's own that computes otherwise with float64; None if it is another."""
    file, function = _OTHERWISE.get(jaxpr.debug_info.func_name, ("", None))
    if function is None or not types.is_of_jax(jaxpr, file):
        return None
    try:
        outs = jax.tree.leaves(function(*ins))
    except TypeError:  # its derivative, which has its name
        return None
    return outs if len(outs) == len(jaxpr.outvars) else None


def _is_draw(eqn: core.JaxprEqn) -> bool:
    """Whether a call is of a `jax.random` function whose draws depend on no float of the program."""
    free = all(
        isinstance(atom, core.Literal) or not types.is_narrow(types.dtype_of(atom)) for atom in eqn.invars
    )
    jaxpr = eqn.params["jaxpr"]
    return free and types.is_of_jax(jaxpr, "_src/random/") and _has_draws(jaxpr)


def _has_draws(jaxpr: types.Jaxpr) -> bool:
    return any(
        eqn.primitive.name in DRAWS or any(map(_has_draws, types.jaxprs_in(eqn.params))) for eqn in jaxpr.eqns
    )


def _draw(eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """Random numbers as the program draws them: they are inputs, and exact in float64."""
    ins = [atom.val if isinstance(atom, core.Literal) else x for atom, x in zip(eqn.invars, ins, strict=True)]
    return [
        jnp.astype(out, types.widened(out.dtype)) if types.is_narrow(out.dtype) else out
        for out in bind(eqn, ins, eqn.params)
    ]


def hijax(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """One of JAX's composed primitives (`checkpoint_name`, ...), by what it is composed of."""
    inputs: list[Any] = [atom.aval for atom in eqn.invars]
    avals = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in inputs]
    prim = eqn.params["_prim"]
    jaxpr = jax.make_jaxpr(lambda *args: prim.expand(*jax.tree.unflatten(prim.in_tree, args)))(*avals)
    return run.evaluate(jaxpr, ins)


def shard_map(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A function mapped over shards; its specs say nothing of dtypes."""
    p = eqn.params
    mapped = jax.shard_map(
        lambda *args: tuple(run.evaluate(p["jaxpr"], args)),
        mesh=p["mesh"],
        in_specs=tuple(p["in_specs"]),
        out_specs=tuple(p["out_specs"]),
        check_vma=p["check_vma"],
        axis_names=p["newly_manual_axes"],
    )
    return list(mapped(*ins))


# ---- control flow: the carry's dtypes agree, since all values have their variables' widened dtypes


def scan(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A loop over rows, with its carry and stacked outputs in float64."""
    p = eqn.params
    if "ft_in" in p:  # since JAX 0.11
        num_consts, num_carry, _ = (len(part) for part in p["ft_in"].unpack())
    else:
        num_consts, num_carry = p["num_consts"], p["num_carry"]
    consts, ins = ins[:num_consts], ins[num_consts:]
    carry, xs = ins[:num_carry], ins[num_carry:]

    def body(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        outs = run.evaluate(p["jaxpr"], [*consts, *carry, *x])
        return outs[:num_carry], outs[num_carry:]

    carry, ys = jax.lax.scan(body, carry, xs, length=p["length"], reverse=p["reverse"], unroll=p["unroll"])
    return [*carry, *ys]


def while_(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A loop with a condition, with its state in float64."""
    p = eqn.params
    if p["cond_jaxpr"].outvars[0].aval.shape:  # each row stops by itself, which JAX has no function for
        return with_jaxprs(run, eqn, ins)
    of_body = p["cond_nconsts"]
    init = of_body + p["body_nconsts"]
    return jax.lax.while_loop(
        lambda state: run.evaluate(p["cond_jaxpr"], [*ins[:of_body], *state])[0],
        lambda state: run.evaluate(p["body_jaxpr"], [*ins[of_body:init], *state]),
        ins[init:],
    )


def cond(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """One of several branches, all of them in float64."""
    branches = [lambda *args, jaxpr=jaxpr: run.evaluate(jaxpr, args) for jaxpr in eqn.params["branches"]]
    return jax.lax.switch(ins[0], branches, *ins[1:])


def with_jaxprs(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A primitive that holds jaxprs of scalars or operators, bound with these in float64."""

    def widen(value: Any) -> Any:
        if isinstance(value, core.ClosedJaxpr):
            return _widened(run, value, None)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(widen, value))
        return value

    params = {name: widen(value) for name, value in eqn.params.items()}
    for name in [name.removesuffix("consts") for name in params if name.endswith("_consts")]:
        if (jaxpr := eqn.params[f"{name}jaxpr"]) is not None:
            closed = _widened(run, jaxpr, eqn.params[f"{name}consts"])
            params |= {f"{name}jaxpr": closed.jaxpr, f"{name}consts": tuple(closed.consts)}
    return bind(eqn, ins, params)


def _widened(run: Evaluator, jaxpr: types.Jaxpr, consts: Sequence[Any] | None) -> core.ClosedJaxpr:
    avals = [types.widened_aval(v) for v in jaxpr.invars]
    return jax.make_jaxpr(lambda *args: run.evaluate(jaxpr, args, consts))(*avals)


# JAX's own functions that take a float's bits, or choose their method by its dtype, with their files.
_OTHERWISE: dict[str, tuple[str, Callable[..., Any]]] = {
    "signbit": ("_src/numpy/ufuncs.py", jnp.signbit),
    "frexp": ("_src/numpy/ufuncs.py", jnp.frexp),
    "ldexp": ("_src/numpy/ufuncs.py", jnp.ldexp),
    "log_ndtr": ("_src/scipy/special.py", jax.scipy.special.log_ndtr),
}
with contextlib.suppress(ImportError):  # since JAX 0.11
    from jax._src.lax.erf import exp_neg_sq

    _OTHERWISE["exp_neg_sq"] = ("_src/lax/erf.py", exp_neg_sq)  # of erf's derivative
