"""How the equations of a jaxpr that touch narrower floats are evaluated in float64."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from parity.comparison.float64 import calls, types
from parity.comparison.float64.autodiff import custom_jvp, custom_vjp
from parity.comparison.float64.calls import Evaluator, bind


def apply(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """An equation's outputs in their widened dtypes, from its operands in theirs.

    Raises:
      UserError: if the equation can't be evaluated in float64.
    """
    name = eqn.primitive.name
    if types.touches_narrow(eqn):
        if function := types.made_in_jax(eqn, _BY_DTYPE):
            run.refuse(f"JAX's {function[1]} has another method for float64: give it float64")
        if name in _OPAQUE:
            run.refuse(_OPAQUE[name])
    elif name not in _RULES or not types.holds_rules(eqn):
        return bind(eqn, ins, eqn.primitive.get_bind_params(eqn.params))
    return _RULES.get(name, _same_primitive)(run, eqn, ins)


# ---- conversions


def _convert(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """To a narrower float: left out, of floats; to float64, of integers. Anything else is as it was."""
    source, target = types.dtype_of(eqn.invars[0]), eqn.params["new_dtype"]
    if types.loses(source, target) and not isinstance(eqn.invars[0], core.Literal):  # Python's constants
        run.left_out()
    if types.widened(target) == ins[0].dtype:
        return [jnp.asarray(ins[0])]
    return bind(eqn, ins, {**eqn.params, "new_dtype": types.widened(target)})


def _reduce_precision(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    if types.reduces_precision(eqn):
        run.left_out()
    return [jnp.asarray(ins[0])]


def _bitcast(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """An integer's bits as a narrower float are that float's value; a float64 has no such float's bits."""
    if not jnp.issubdtype(ins[0].dtype, np.integer):
        run.refuse("it takes the bits of a narrower float, which a float64 does not have")
    narrow = bind(eqn, ins, eqn.params)[0]
    return [jnp.astype(narrow, types.widened(narrow.dtype))]


# ---- primitives that compute


def _reduce(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    half = len(ins) // 2
    return jax.lax.reduce(ins[:half], ins[half:], _computation(run, eqn), eqn.params["dimensions"])


def _reduce_window(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    half = len(ins) // 2
    window = {name: value for name, value in eqn.params.items() if name not in ("jaxpr", "consts")}
    return list(jax.lax.reduce_window(ins[:half], ins[half:], _computation(run, eqn), **window))


def _computation(run: Evaluator, eqn: core.JaxprEqn) -> Callable[[Any, Any], list[Any]]:
    return lambda total, values: run.evaluate(
        eqn.params["jaxpr"], [*total, *values], eqn.params.get("consts")
    )


def _same_primitive(run: Evaluator, eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """A primitive of JAX's whose outputs' dtypes follow from its operands' and from `_DTYPES`."""
    if eqn.primitive not in _known():
        run.refuse("it is no primitive of JAX's own, so what it does with float64 is unknown")
    params = {
        name: types.widened(value) if name in _DTYPES and value is not None else value
        for name, value in eqn.params.items()
    }
    bad = [name for name, value in params.items() if types.names_narrow(value) or [*types.jaxprs_in(value)]]
    if bad:
        run.refuse(f"no rule says what its {bad[0]} is in float64")
    if types.reduces_precision(eqn):
        params["precision"] = None
    if _DTYPES & params.keys():
        out = types.dtype_of(eqn.outvars[0])
        if any(types.loses(types.dtype_of(atom), out) for atom in eqn.invars):
            run.left_out()
    return bind(eqn, ins, eqn.primitive.get_bind_params(params))


@functools.cache
def _known() -> frozenset[core.Primitive]:
    """JAX's own primitives of arrays: no kernels, callbacks or anybody else's."""
    modules = [importlib.import_module(f"jax._src.{name}") for name in _OF_JAX]
    return frozenset(
        value for module in modules for value in vars(module).values() if isinstance(value, core.Primitive)
    )


_OF_LAX = (
    *("lax", "slicing", "special", "linalg", "fft", "convolution", "windowed_reductions", "parallel", "ann"),
    *("control_flow.loops", "control_flow.conditionals"),
)
_OF_JAX = (
    *(f"lax.{name}" for name in _OF_LAX),
    *("ad_util", "ad_checkpoint", "core", "pjit", "dispatch", "debugging", "random.prng", "state.primitives"),
)

# Functions of JAX's own that choose their method, or when it ends, by dtype.
_SPECIAL = (
    *("_dawsn_impl", "sici", "sici_jvp", "_spence_calc", "expi", "expi_jvp", "_expi_pos", "_expi_neg"),
    *("exp1", "expn", "_expn", "_expn_jvp", "hyp1f1", "_hyp1f1_serie", "_hyp1f1_asymptotic"),
    *("hyp2f1", "_hyp2f1_serie", "_hyp2f1_terminal", "ndtri", "_ndtri", "erfcinv"),
    *("wofz", "_wofz", "_wofz_upper", "_owens_t_impl", "_owens_t_quadrature"),
)
_BY_DTYPE = {
    ("_src/numpy/ufuncs.py", "sinc"),
    ("_src/lax/special.py", "_bessel_i1e_jvp"),
    ("_src/third_party/scipy/special.py", "fresnel"),
    *(("_src/scipy/special.py", name) for name in _SPECIAL),
}
_DTYPES = {"preferred_element_type", "dtype", "input_dtype"}
_KERNEL = "it is a kernel for narrower floats: choose the model's implementation without it"
_CALLBACK = "it calls Python with narrower floats: do without the callback"
_OPAQUE = {
    **dict.fromkeys(
        ("pallas_call", "ffi_call", "tpu_custom_call", "custom_partitioning", "call_exported"), _KERNEL
    ),
    **dict.fromkeys(("pure_callback", "io_callback", "buffer_callback"), _CALLBACK),
    **dict.fromkeys(
        ("random_gamma", "random_gamma_grad", "rng_uniform"), "its draws depend on a float of the program"
    ),
}
_RULES: dict[str, Callable[[Evaluator, core.JaxprEqn, list[Any]], list[Any]]] = {
    "convert_element_type": _convert,
    "reduce_precision": _reduce_precision,
    "bitcast_convert_type": _bitcast,
    "jit": calls.jit,
    **dict.fromkeys(
        ("call", "closed_call", "core_call", "remat2", "eval_jaxpr", "custom_vmap_call", "linear_call"),
        calls.inline,
    ),
    **dict.fromkeys(("composite", "compute_on", "xla_metadata_call", "remat_opt"), calls.inline),
    "call_hi_primitive": calls.hijax,
    "custom_jvp_call": custom_jvp,
    "custom_vjp_call": custom_vjp,
    "shard_map": calls.shard_map,
    "scan": calls.scan,
    "while": calls.while_,
    "cond": calls.cond,
    "reduce": _reduce,
    "reduce_window": _reduce_window,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        calls.with_jaxprs,
    ),
    **dict.fromkeys(("select_and_scatter", "custom_linear_solve"), calls.with_jaxprs),
}
