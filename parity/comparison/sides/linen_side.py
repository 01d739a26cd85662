"""Anybody's linen module, with its variables, as one side of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen
from flax.core import unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from parity.comparison.inputs import Arguments
from parity.comparison.recording import Arrays, Dropout
from parity.comparison.sides.flax_side import DTYPES, Caller, FlaxSide, to_numpy
from parity.comparison.sides.flax_taps import Taps, is_float_array
from recipe.system.errors import UserError

METHODS = ("__call__", "attend")


class LinenSide(FlaxSide):
    """A linen module and its variables, {"params": …, "batch_stats": …}; the rest is of `FlaxSide`.

    `call` gets `apply(*arguments, **keywords)`, which has the variables.
    """

    def __init__(
        self,
        module: linen.Module,
        variables: Mapping[str, Any],
        call: Caller | None = None,
        outputs: Callable[[Any], Any] | None = None,
        loss: Callable[[Any], Any] | None = None,
    ):
        super().__init__(call, outputs, loss, type(module).__call__)
        self._module = module
        flat = flatten_dict(unfreeze(dict(variables)))
        if not any(path[0] == "params" for path in flat):
            raise UserError('linen variables are {"params": …, …} as `init` gives them; there is no "params"')
        self._paths = {".".join(map(str, path[1:])): path for path in flat}
        if len(self._paths) != len(flat):
            raise UserError("two collections of the linen variables have a tensor of one name")
        self._values = {name: flat[path] for name, path in self._paths.items()}
        self._floats = {n for n, v in self._values.items() if is_float_array(v)}
        self.parameters = [n for n, p in self._paths.items() if p[0] == "params" and n in self._floats]
        self.others = {n: p[0] for n, p in self._paths.items() if p[0] not in ("params", "batch_stats")}

    def tensors(self) -> Arrays:
        """All float tensors by their dotted paths without the collection, float64."""
        return {n: to_numpy(self._values[n]) for n in self._paths if n in self._floats}

    def owned(self) -> dict[str, frozenset[str]]:
        """Module path → names of all float tensors in it."""
        found: dict[str, set[str]] = {}
        for name in self._floats:
            parts = name.split(".")
            for end in range(len(parts)):
                found.setdefault(".".join(parts[:end]), set()).add(name)
        return {path: frozenset(names) for path, names in found.items()}

    def named(self, converted: Any) -> Arrays:
        """What a converter returns, by dotted paths: variables, the parameters alone, or a flat dict."""
        flat = {tuple(map(str, p)): v for p, v in flatten_dict(unfreeze(dict(converted))).items()}
        collections = {path[0] for path in self._paths.values()}
        if all(path[0] in collections for path in flat):
            flat = {path[1:] or (path[0].partition(".")[2],): v for path, v in flat.items()}
        return {n: np.asarray(v) for p, v in flat.items() if (n := ".".join(p)) in self._floats}

    def forward(
        self, tensors: Mapping[str, Any], inputs: Arguments, precision: str, training: bool, taps: Taps
    ) -> tuple[Any, dict[str, Any]]:
        """Inside a trace: what the network returns, and all tensors but parameters afterwards."""
        variables = unflatten_dict({self._paths[n]: tensors.get(n, v) for n, v in self._values.items()})
        mutable = [name for name in variables if name != "params"] if training else []
        after: dict[str, Any] = {}
        module = _with_dtype(self._module, precision)

        def apply(*args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("mutable", mutable or False)
            returned = module.apply(variables, *args, **kwargs)
            if kwargs["mutable"]:
                returned, changed = returned
                after.update({".".join(p[1:]): v for p, v in flatten_dict(unfreeze(changed)).items()})
            return returned

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            path = ".".join(map(str, context.module.path))
            if isinstance(context.module, linen.Dropout):
                return _passed(context.module, path, taps, args, kwargs)
            if context.method_name not in METHODS:
                return method(*args, **kwargs)
            kind = type(context.module).__name__
            return taps.call(path, kind, method, args, kwargs, linen.Module)

        with linen.intercept_methods(intercept):
            returned = self._call(apply, *inputs.args, train=training, **inputs.kwargs)
        return returned, {
            n: after.get(n, tensors[n]) for n in self._floats if n not in self.parameters and n in tensors
        }


def _passed(module: Any, path: str, taps: Taps, args: Any, kwargs: Any) -> Any:
    """What a dropout gives that passes its input on."""
    deterministic = kwargs.get("deterministic", args[1] if len(args) > 1 else module.deterministic)
    if not deterministic and module.rate:
        taps.dropouts.append(Dropout(path, float(module.rate)))
    return args[0] if args else kwargs["inputs"]


def _with_dtype(module: linen.Module, precision: str) -> linen.Module:
    """The network computing in a precision, if it asks for one: its constants follow this dtype."""
    dtype = getattr(module, "dtype", None)
    if dtype is None or precision == "f32":
        return module
    try:
        is_float = jnp.issubdtype(np.dtype(dtype), jnp.floating)
    except TypeError:
        return module
    return module.clone(dtype=DTYPES[precision].type) if is_float else module
