"""Which dtypes and equations are narrower than float64, and where equations stand in the source."""

from __future__ import annotations

import weakref
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import source_info_util
from jax.extend import core

FLOAT64, COMPLEX128 = np.dtype(np.float64), np.dtype(np.complex128)
_JAX = Path(jax.__file__).parent
Jaxpr: TypeAlias = core.Jaxpr | core.ClosedJaxpr  # with its constants: a type of its own until JAX 0.11

_NARROW: weakref.WeakKeyDictionary[Jaxpr, bool] = weakref.WeakKeyDictionary()
_RULES: weakref.WeakKeyDictionary[Jaxpr, bool] = weakref.WeakKeyDictionary()


def widened(dtype: Any) -> Any:
    """float64 for a float dtype, complex128 for a complex one; integers, flags and keys as they are."""
    if jnp.issubdtype(dtype, np.complexfloating):
        return COMPLEX128
    return FLOAT64 if jnp.issubdtype(dtype, np.floating) else dtype


def is_narrow(dtype: Any) -> bool:
    """Whether a dtype is a float with fewer digits than float64, or a complex one of such floats."""
    return widened(dtype) != dtype


def loses(source: Any, target: Any) -> bool:
    """Whether floats of `target` can't hold those of `source`: fewer digits or a smaller range."""
    if not (jnp.issubdtype(source, np.inexact) and jnp.issubdtype(target, np.inexact)):
        return False
    have, want = jnp.finfo(target), jnp.finfo(source)
    return have.nmant < want.nmant or have.maxexp < want.maxexp


def dtype_of(atom: Any) -> Any:
    """The dtype that a jaxpr's variable or literal has in the program as it was traced; None of a token."""
    return getattr(atom.aval, "dtype", None)


def widened_aval(atom: Any) -> jax.ShapeDtypeStruct:
    """Shape and float64 dtype of a jaxpr's variable."""
    return jax.ShapeDtypeStruct(atom.aval.shape, widened(atom.aval.dtype), weak_type=atom.aval.weak_type)


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter is a jaxpr."""
    return isinstance(value, Jaxpr)


def jaxprs_in(value: Any) -> Iterator[Jaxpr]:
    """The jaxprs in an equation's parameters, in dicts, tuples and lists too."""
    if is_jaxpr(value):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from jaxprs_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from jaxprs_in(item)


def reduces_precision(eqn: core.JaxprEqn) -> bool:
    """Whether an equation rounds by a parameter that names no dtype, and so could round float64 itself."""
    if eqn.primitive.name == "reduce_precision":
        kind = jnp.finfo(dtype_of(eqn.invars[0]))
        return eqn.params["mantissa_bits"] < kind.nmant or eqn.params["exponent_bits"] < kind.nexp
    return "Algorithm" in type(eqn.params.get("precision")).__name__  # DotAlgorithm, DotAlgorithmPreset


def touches_narrow(eqn: core.JaxprEqn) -> bool:
    """Whether an equation takes, makes or holds a narrow float, at any depth."""
    atoms = [*eqn.invars, *eqn.outvars]
    if any(is_narrow(dtype) for atom in atoms if (dtype := dtype_of(atom)) is not None):
        return True
    return reduces_precision(eqn) or any(has_narrow(jaxpr) for jaxpr in jaxprs_in(eqn.params))


def has_narrow(jaxpr: Jaxpr) -> bool:
    """`touches_narrow` of any of a jaxpr's equations. Calls share jaxprs, so answers are kept."""
    if jaxpr not in _NARROW:
        atoms = [*jaxpr.constvars, *jaxpr.invars, *jaxpr.outvars]
        narrow = any(is_narrow(dtype) for atom in atoms if (dtype := dtype_of(atom)) is not None)
        _NARROW[jaxpr] = narrow or any(map(touches_narrow, jaxpr.eqns))
    return _NARROW[jaxpr]


def holds_rules(eqn: core.JaxprEqn) -> bool:
    """Whether an equation holds a function with derivatives of its own, which may narrow what it does not."""
    if eqn.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        return True
    inner = list(jaxprs_in(eqn.params))
    for jaxpr in inner:
        if jaxpr not in _RULES:
            _RULES[jaxpr] = any(map(holds_rules, jaxpr.eqns))
    return any(_RULES[jaxpr] for jaxpr in inner)


def names_narrow(value: Any) -> bool:
    """Whether a parameter is or holds a narrow float dtype, or something that has one."""
    if isinstance(value, dict):
        return any(map(names_narrow, value.values()))
    if isinstance(value, tuple | list):
        return any(map(names_narrow, value))
    if not isinstance(value, np.dtype) and not (isinstance(value, type) and issubclass(value, np.generic)):
        value = getattr(value, "dtype", None)
    return value is not None and is_narrow(value)


def place(eqns: Sequence[core.JaxprEqn]) -> str:
    """Where the user's code, not JAX's, made the last of nested equations: `file.py:123 (function)`.

    Equations within a jitted function of JAX's own know no more than that; the call's place is theirs.
    """
    for eqn in reversed(eqns):
        if frame := source_info_util.user_frame(eqn.source_info.traceback):
            return f"{Path(frame.file_name).name}:{frame.start_line} ({frame.function_name})"
    return "unknown place"


def is_of_jax(jaxpr: Jaxpr, path: str) -> bool:
    """Whether a jaxpr is of a function of JAX's own: `path` is of its file or folder in the package."""
    return (jaxpr.debug_info.func_filename or "").startswith(str(_JAX / path))


def made_in_jax(eqn: core.JaxprEqn, functions: Container[tuple[str, str]]) -> tuple[str, str] | None:
    """The function of JAX's own, of those given by file in the package and name, that made an equation."""
    traceback = eqn.source_info.traceback
    folder = f"{_JAX}/"
    codes: list[Any] = traceback.raw_frames()[0] if traceback else []
    for code in codes:
        found = (code.co_filename.removeprefix(folder), code.co_name)
        if found in functions:
            return found
    return None


source_info_util.register_exclusion(str(Path(__file__).parent))
