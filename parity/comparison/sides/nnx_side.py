"""Anybody's NNX module as one side of a comparison."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import flatten_dict

from parity.comparison.inputs import Arguments
from parity.comparison.recording import Arrays, Dropout
from parity.comparison.sides.flax_side import DTYPES, Caller, FlaxSide, to_numpy
from parity.comparison.sides.flax_taps import Taps, is_float_array

METHODS = ("__call__", "attend")  # `attend` is how an embedding is used a second time
ATOMS = (nnx.Module, nnx.Variable, nnx.Rngs)  # arguments that are no arrays, though JAX can flatten them


class NnxSide(FlaxSide):
    """An `nnx.Module`; arguments are those of `FlaxSide`. The model itself is left as it is."""

    def __init__(
        self,
        model: nnx.Module,
        call: Caller | None = None,
        outputs: Callable[[Any], Any] | None = None,
        loss: Callable[[Any], Any] | None = None,
    ):
        super().__init__(call, outputs, loss, type(model).__call__)
        self._graphdef, self._state = nnx.split(model)
        self._variables = {dotted(p): v for p, v in nnx.to_flat_state(self._state)}
        self._floats = {n for n, v in self._variables.items() if is_float_array(v.get_value())}
        self.parameters = [n for n in self._variables if n in self._floats and self._is_param(n)]
        self.others = {  # state that is neither a parameter nor a statistic, such as caches and random keys
            n: type(v).__name__
            for n, v in self._variables.items()
            if not isinstance(v, nnx.Param | nnx.BatchStat | nnx.RngState)
        }
        self._owned = _owned(model)
        self.fuses = any(hasattr(type(module), "unfused") for _, module in nnx.iter_modules(model))

    def tensors(self) -> Arrays:
        """All float tensors by their dotted paths, float64."""
        return {n: to_numpy(v.get_value()) for n, v in self._variables.items() if n in self._floats}

    def owned(self) -> dict[str, frozenset[str]]:
        """Module path → names of all float tensors in it."""
        return {path: frozenset(names & self._floats) for path, names in self._owned.items()}

    def named(self, converted: Any) -> Arrays:
        """What a converter returns, by dotted paths: flat or nested dicts, a state, or a whole model."""
        if isinstance(converted, nnx.Module):
            converted = nnx.state(converted)
        if isinstance(converted, nnx.State):
            flat = {dotted(path): leaf for path, leaf in nnx.to_flat_state(converted)}
        else:
            flat = {dotted(path): leaf for path, leaf in flatten_dict(dict(converted)).items()}
        values = {n: v.get_value() if isinstance(v, nnx.Variable) else v for n, v in flat.items()}
        return {n: np.asarray(v) for n, v in values.items() if n in self._floats}

    def forward(
        self, tensors: Mapping[str, Any], inputs: Arguments, precision: str, training: bool, taps: Taps
    ) -> tuple[Any, dict[str, Any]]:
        """Inside a trace: what the network returns, and all tensors but parameters afterwards."""
        graphdef, own = self.network(precision)
        state = nnx.from_flat_state(
            [(p, v.replace(tensors[dotted(p)]) if dotted(p) in tensors else v)
             for p, v in nnx.to_flat_state(own)]
        )  # fmt: skip
        model: Any = nnx.merge(graphdef, state)
        model.train() if training else model.eval()
        modules = [(dotted(path), module) for path, module in nnx.iter_modules(model)]
        paths = {id(module): path for path, module in modules}
        for path, module in modules:
            self.set_dtype(module, precision)
            _without_dropout(module, path, taps)
            if path and callable(module):
                object.__setattr__(module, "__class__", _recorded(type(module)))
        _ACTIVE.append((taps, paths))
        try:
            returned = self._call(model, *inputs.args, train=training, **inputs.kwargs)
        finally:
            _ACTIVE.pop()
        after = {dotted(p): v for p, v in nnx.to_flat_state(nnx.state(model))}
        return returned, {
            n: after[n].get_value() for n in self._floats if n in after and n not in self.parameters
        }

    def network(self, precision: str) -> tuple[Any, Any]:
        """The graph and the state of the network that runs in a precision."""
        return self._graphdef, self._state

    def set_dtype(self, module: Any, precision: str) -> None:
        """Compute in a precision where the module asks for one: its constants follow this dtype."""
        dtype = getattr(module, "dtype", None)
        if dtype is None or precision == "f32":
            return
        try:
            is_float = jnp.issubdtype(np.dtype(dtype), jnp.floating)
        except TypeError:
            return
        if is_float:
            module.dtype = DTYPES[precision].type

    def _is_param(self, name: str) -> bool:
        return isinstance(self._variables[name], nnx.Param)


_ACTIVE: list[tuple[Taps, dict[int, str]]] = []  # of the trace that is running


@functools.cache
def _recorded(cls: type) -> type:
    """A subclass that records its calls.

    NNX has no forward hooks. Only the objects of one trace become of this class; `cls` is left as it is.
    """

    def recorded(name: str) -> Callable[..., Any]:
        @functools.wraps(getattr(cls, name))
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            method = getattr(cls, name)  # as it is now
            if not _ACTIVE:
                return method(self, *args, **kwargs)
            taps, paths = _ACTIVE[-1]
            if kwargs and hasattr(cls, "unfused"):  # a layer that also does what is behind it
                return (method if taps.fused else cls.unfused)(self, *args, **kwargs)
            fn = functools.partial(method, self)
            return taps.call(paths.get(id(self)), cls.__name__, fn, args, kwargs, ATOMS)

        return call

    methods = {name: recorded(name) for name in METHODS if hasattr(cls, name)}
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), {**methods, **names})


def _without_dropout(module: Any, path: str, taps: Taps) -> None:
    """Take a module's dropout out, and keep that it was on."""
    rate = getattr(module, "rate" if isinstance(module, nnx.Dropout) else "dropout_rate", None)
    if not isinstance(rate, int | float) or not rate:
        return
    if isinstance(module, nnx.Dropout):
        object.__setattr__(module, "__class__", _silent(type(module)))
    elif hasattr(module, "deterministic"):
        if not module.deterministic:
            taps.dropouts.append(Dropout(path, float(rate)))
        module.dropout_rate = 0.0


@functools.cache
def _silent(cls: type) -> type:
    """A dropout that passes its input on."""

    def passed(self: Any, inputs: Any, *, deterministic: Any = None, **_: Any) -> Any:
        if deterministic is None:
            deterministic = self.deterministic
        if not deterministic and _ACTIVE:
            taps, paths = _ACTIVE[-1]
            taps.dropouts.append(Dropout(paths.get(id(self), cls.__name__), float(self.rate)))
        return inputs

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls)(cls.__name__, (cls,), {"__call__": passed, **names})


def _owned(model: nnx.Module) -> dict[str, set[str]]:
    """Module path → the first names of all variables in it, shared ones too."""
    found: dict[str, set[str]] = {}
    originals = {id(v): dotted(p) for p, v in nnx.iter_graph(model) if isinstance(v, nnx.Variable)}
    for path, module in nnx.iter_modules(model):
        inside = {id(v) for _, v in nnx.iter_graph(module) if isinstance(v, nnx.Variable)}
        found[dotted(path)] = {originals[i] for i in inside}
    return found


def dotted(path: Any) -> str:
    """("layers", 0, "kernel") → "layers.0.kernel"."""
    return ".".join(map(str, path))
