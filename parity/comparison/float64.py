"""Run any JAX function in float64, whatever dtypes its modules ask for.

The function is traced with float64 inputs under x64 (so Python constants keep their digits), and its jaxpr is
evaluated with every conversion to a narrower float left out. Modules with `dtype=jnp.float32`, RMS norms that
go through float32, BatchNorm's float32 statistics: all run in float64 without being touched.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jcore

NARROW = {np.dtype("float32"), np.dtype("float16"), jnp.dtype(jnp.bfloat16)}
INLINE = {
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "remat",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "custom_lin",
}


def _wide(x):
    return x.astype(jnp.float64) if hasattr(x, "dtype") and x.dtype in NARROW else x


def _params(params):
    fixed = {}
    for name, value in params.items():
        if isinstance(value, (np.dtype, type(jnp.float32))) or (
            isinstance(value, type) and issubclass(value, np.generic)
        ):
            try:
                value = np.dtype("float64") if np.dtype(value) in NARROW else value
            except TypeError:
                pass
        fixed[name] = value
    return fixed


def evaluate(closed, args, seen):
    jaxpr, consts = closed.jaxpr, closed.consts
    env = {}

    def read(v):
        return _wide(jnp.asarray(v.val)) if isinstance(v, jcore.Literal) else env[v]

    for v, c in zip(jaxpr.constvars, consts):
        env[v] = (
            _wide(jnp.asarray(c))
            if hasattr(c, "dtype") and not jax.dtypes.issubdtype(c.dtype, jax.dtypes.prng_key)
            else c
        )
    for v, a in zip(jaxpr.invars, args):
        env[v] = _wide(a)
    for eqn in jaxpr.eqns:
        ins, name, params = [read(v) for v in eqn.invars], eqn.primitive.name, eqn.params
        if name in INLINE:
            inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("fun_jaxpr")
            if not hasattr(inner, "consts"):
                inner = jcore.ClosedJaxpr(inner, ())
            outs = evaluate(inner, ins, seen)
        elif (
            name == "convert_element_type"
            and np.dtype(params["new_dtype"]) in NARROW
            and jnp.issubdtype(ins[0].dtype, jnp.inexact)
        ):
            seen.append(str(eqn.source_info.traceback.frames[0]) if eqn.source_info.traceback else "?")
            outs = [ins[0]]
        elif name.startswith("scatter"):  # their reduction is a jaxpr of one dtype
            fn = getattr(jax.lax, name.replace("-", "_"))
            outs = [
                fn(
                    *ins,
                    params["dimension_numbers"],
                    indices_are_sorted=params["indices_are_sorted"],
                    unique_indices=params["unique_indices"],
                    mode=params["mode"],
                )
            ]
        elif name == "reduce_precision":
            outs = [ins[0]]
        elif name == "scan":
            k, c = (
                (params["num_consts"], params["num_carry"])
                if "num_consts" in params
                else (len(jax.tree.leaves(part, is_leaf=lambda v: v is None)) for part in params["ft_in"][:2])
            )
            consts_, carry, xs = ins[:k], ins[k : k + c], ins[k + c :]

            def body(carry, x, consts_=consts_, inner=params["jaxpr"], c=c):
                outs = evaluate(inner, [*consts_, *carry, *x], seen)
                return outs[:c], outs[c:]

            carry, ys = jax.lax.scan(
                body, list(carry), list(xs), length=params["length"], reverse=params["reverse"]
            )
            outs = [*carry, *ys]
        elif name == "while":
            kc, kb = params["cond_nconsts"], params["body_nconsts"]
            cc, cb, init = ins[:kc], ins[kc : kc + kb], ins[kc + kb :]
            outs = jax.lax.while_loop(
                lambda s: evaluate(params["cond_jaxpr"], [*cc, *s], seen)[0],
                lambda s: evaluate(params["body_jaxpr"], [*cb, *s], seen),
                list(init),
            )
        elif name == "cond":
            outs = jax.lax.switch(
                ins[0], [lambda *a, b=b: evaluate(b, a, seen) for b in params["branches"]], *ins[1:]
            )
        else:
            bind = eqn.primitive.get_bind_params(_params(params))
            subfuns, bind = bind if isinstance(bind, tuple) else ((), bind)  # (), dict before JAX 0.12
            outs = eqn.primitive.bind(*subfuns, *ins, **bind)
            outs = outs if eqn.primitive.multiple_results else [outs]
        for v, o in zip(eqn.outvars, outs):
            env[v] = o
    return [read(v) for v in jaxpr.outvars]


def in_float64(fn, seen=None):
    """`fn` of pytrees, in float64 throughout. `seen` gets where conversions to narrower floats were left out."""
    seen = [] if seen is None else seen

    def run(*args):
        closed, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        flat = jax.tree.leaves(args)
        outs = evaluate(closed, flat, seen)
        return jax.tree.unflatten(jax.tree.structure(shape), outs)

    return run
