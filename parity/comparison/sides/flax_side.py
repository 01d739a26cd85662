"""What NNX and linen modules share as a side of a comparison: one compiled program for a mode and precision.

A program runs freely or pinned: whether a slot's value is replaced is an argument, so nothing is compiled
twice.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.comparison.float64.evaluate import in_float64
from parity.comparison.inputs import Arguments
from parity.comparison.memory import make_room
from parity.comparison.recording import Arrays, Passing, Pins, Recording, Slot
from parity.comparison.refusals import running
from parity.comparison.sides.flax_taps import Taps, is_float_array
from parity.comparison.sides.flow import reached_slots, unused_calls
from recipe.system.errors import UserError

DTYPES: dict[str, Any] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "bf16": jnp.dtype(jnp.bfloat16),
}
MODES = {  # names of arguments by which a network is told its mode, and what they are in train mode
    "train": True, "training": True, "is_training": True,
    "deterministic": False, "use_running_average": False, "eval": False, "inference": False,
}  # fmt: skip

Caller = Callable[..., Any]


class FlaxSide(abc.ABC):
    """The network that is compared with the reference.

    Args:
      call: (model or apply, *arguments, train=bool) → what the network returns.
      outputs: what `call` returns → the tree that counts.
      loss: what `call` returns → a scalar; without it gradients are of a random linear function of the
        outputs.
    """

    parameters: list[str]
    guessed: str = ""  # how the mode is passed, if that is a guess
    described_in: str = "f32"  # the precision in which the network is traced first
    fuses: bool = False  # whether layers do what is behind them as well, and in separate steps if asked to

    def __init__(
        self,
        call: Caller | None,
        outputs: Callable[[Any], Any] | None,
        loss: Callable[[Any], Any] | None,
        signature: Callable[..., Any],
    ):
        self._call = call or self._guess_call(signature)
        self._outputs, self._loss = outputs or (lambda found: found), loss
        self._programs: dict[Any, tuple[Any, dict[str, Any]]] = {}
        self.narrowed: list[str] = []

    @abc.abstractmethod
    def tensors(self) -> Arrays:
        """All float tensors by their dotted paths, float64."""

    @abc.abstractmethod
    def owned(self) -> dict[str, frozenset[str]]:
        """Module path → names of all float tensors in it."""

    @abc.abstractmethod
    def named(self, converted: Any) -> Arrays:
        """What a converter returns, by dotted paths."""

    @abc.abstractmethod
    def forward(
        self, tensors: Mapping[str, Any], inputs: Arguments, precision: str, training: bool, taps: Taps
    ) -> tuple[Any, dict[str, Any]]:
        """Inside a trace: what the network returns, and all tensors but parameters afterwards."""

    def dtype(self, precision: str) -> Any:
        """Of tensors and inputs in a precision."""
        return DTYPES[precision]

    def adapted(self, fn: Caller, precision: str) -> Caller:
        """A program that was written for float32, in a precision."""
        return in_float64(fn, self.narrowed) if precision == "f64" else fn

    def _guess_call(self, signature: Callable[..., Any]) -> Caller:
        """Pass the mode by an argument whose name says so."""
        try:
            names = list(inspect.signature(signature).parameters)
        except (TypeError, ValueError):
            names = []
        mode = next((name for name in MODES if name in names), None)
        if mode is None:
            return lambda m, *args, train, **kwargs: m(*args, **kwargs)
        self.guessed = (
            f"Flax is called with {mode}={'' if MODES[mode] else 'not '}train, by the argument's name"
        )
        return lambda m, *args, train, **kwargs: m(*args, **{mode: train == MODES[mode]}, **kwargs)

    def describe(self, inputs: Arguments, training: bool = False) -> Recording:
        """The order of calls and the shapes of all values, without computing."""
        found: dict[str, Any] = {}
        precision = self.described_in

        def program(tensors: Any, leaves: Any) -> Any:
            taps = Taps(None, {})
            returned, state = self.forward(tensors, inputs.replaced(leaves), precision, training, taps)
            named = {n: x for n, x in _named_leaves(self._outputs(returned)) if is_float_array(x)}
            found.update(vars(taps), outputs=named)
            arrays = [x for x in jax.tree.leaves((returned, state)) if isinstance(x, jax.Array)]
            return arrays, list(taps.values.values())

        dtype = self.dtype(precision)
        with jax.enable_x64(precision == "f64"):
            tensors = {n: jax.ShapeDtypeStruct(a.shape, dtype) for n, a in self.tensors().items()}
            fixed, dynamic = _split(inputs, dtype)
            traced, (arrays, _) = jax.make_jaxpr(
                lambda t, d: program(t, _merged(fixed, d)), return_shape=True
            )(tensors, dynamic)
        flow = traced.jaxpr, len(arrays), list(found["values"])
        shapes = {slot: np.broadcast_to(np.float64(0), x.shape) for slot, x in found["values"].items()}
        outputs = {name: np.broadcast_to(np.float64(0), x.shape) for name, x in found["outputs"].items()}
        return Recording(
            {slot: Passing(array) for slot, array in shapes.items()}, found["order"], found["kinds"], outputs,
            {}, {}, [], None, found["dropouts"], found["opaque"],
            unused=unused_calls(*flow), reached=reached_slots(*flow),
        )  # fmt: skip

    def run(
        self,
        tensors: Mapping[str, np.ndarray],
        inputs: Arguments,
        precision: str,
        training: bool,
        *,
        pins: Pins | None = None,
        off: frozenset[Slot] | None = None,
        keep: frozenset[str] | None = None,
        cotangents: Sequence[np.ndarray] | None = None,
        fused: bool = False,
    ) -> Recording:
        """One forward pass, and a backward pass where there are cotangents.

        Args:
          tensors: float tensors by name.
          inputs: NumPy, as Flax takes them.
          precision: f64, f32 or bf16: of tensors, inputs and computation.
          training: the mode.
          pins: what replaces the values and the gradients that pass.
          off: pins that are there, but do nothing, so that the program is the same; None for none.
          keep: paths of the modules to record, None for all.
          cotangents: gradients of the outputs.
          fused: whether layers that do what is behind them may; they are not recorded then.
        """
        make_room(tensors, pins)
        # what goes in is gone before the results are copied
        results = self._results(tensors, inputs, precision, training, pins, off, keep, cotangents, fused)
        return _recording(*results, len(inputs.leaves))

    def _results(
        self, tensors: Mapping[str, np.ndarray], inputs: Arguments, precision: str, training: bool,
        pins: Pins | None, off: frozenset[Slot] | None, keep: frozenset[str] | None,
        cotangents: Sequence[np.ndarray] | None, fused: bool,
    ) -> tuple[Any, Any, dict[str, Any]]:  # fmt: skip
        """What the compiled program gives, and what is known of it."""
        dtype = self.dtype(precision)
        with jax.enable_x64(precision == "f64"), jax.default_matmul_precision("highest"):
            fixed, dynamic = _split(inputs, dtype)
            given = {name: _cast(a, dtype) for name, a in tensors.items()}
            learned = {name: given[name] for name in self.parameters}
            rest = {name: a for name, a in given.items() if name not in learned}
            pinned = {
                slot: (
                    _cast(pin.value, dtype),
                    _cast(np.zeros_like(pin.value) if pin.grad is None else pin.grad, dtype),
                    jnp.asarray(on := not off or slot not in off),
                    jnp.asarray(on and pin.backwards),
                )
                for slot, pin in (pins or {}).items()
            }
            probes = {slot: jnp.zeros_like(value) for slot, (value, *_) in pinned.items()}
            weights = [_cast(c, dtype) for c in cotangents or ()]
            floats = {i: x for i, x in dynamic.items() if is_float_array(x)}
            others = {i: x for i, x in dynamic.items() if i not in floats}
            fused = fused and self.fuses
            key = (precision, training, keep, frozenset(pinned), cotangents is None, fused)
            if key not in self._programs:
                self._programs[key] = self._program(
                    inputs, fixed, precision, training, keep, cotangents is None, fused
                )
            program, info = self._programs[key]
            mode = "train" if training else "eval"
            with running(f"in {mode} mode, {precision}, the Flax network"):
                found, grads = program(
                    learned, probes, floats, rest, others, pinned, weights, jnp.zeros((), dtype)
                )
        return found, grads, info

    def _program(
        self,
        inputs: Arguments,
        fixed: Any,
        precision: str,
        training: bool,
        keep: Any,
        forward_only: bool,
        fused: bool,
    ) -> tuple[Any, dict[str, Any]]:
        """The compiled program, and what is known once it was traced."""
        info: dict[str, Any] = {}

        def compute(
            learned: Any, probes: Any, floats: Any, rest: Any, others: Any, pinned: Any, weights: Any,
            zero: Any,
        ) -> Any:  # fmt: skip
            pins = {slot: (value, grad, probes[slot], *on) for slot, (value, grad, *on) in pinned.items()}
            taps = Taps(keep, pins, fused)
            leaves = _merged(fixed, {**floats, **others})
            returned, state = self.forward(
                {**learned, **rest}, inputs.replaced(leaves), precision, training, taps
            )
            named = _named_leaves(self._outputs(returned))
            outputs = {name: x for name, x in named if is_float_array(x)}
            info.update({**vars(taps), "pinned": [], "slots": list(taps.values), "outputs": list(outputs)})
            if self._loss:
                loss = jnp.asarray(self._loss(returned))
                if loss.shape:
                    raise UserError(f"the loss of Flax has shape {loss.shape}: it has to be one number")
            else:
                pairs = zip(outputs.values(), weights, strict=not forward_only)
                loss = sum((jnp.sum(o * w.astype(o.dtype)) for o, w in pairs), jnp.zeros(()))
            # zeros arrive at every pin from behind, or JAX would leave out one that no gradient reaches
            reached = loss + zero * sum((jnp.sum(x.astype(zero.dtype)) for x in taps.pinned), zero)
            return reached, (loss, list(outputs.values()), state, list(taps.values.values()))

        if forward_only:
            fn = lambda *args: (compute(*args)[1], None)  # noqa: E731
        else:
            with_grads = jax.value_and_grad(compute, (0, 1, 2), has_aux=True)

            def fn(*args: Any) -> Any:
                (_, found), grads = with_grads(*args)
                return found, grads

        return jax.jit(self.adapted(fn, precision)), info


def _recording(found: Any, grads: Any, info: Mapping[str, Any], inputs: int) -> Recording:
    loss, outputs, state, values = found
    slots = {slot: Passing(to_numpy(x)) for slot, x in zip(info["slots"], values, strict=True)}
    of_parameters: Arrays = {}
    of_inputs: list[np.ndarray | None] = [None] * inputs
    if grads is not None:
        of_parameters = {name: to_numpy(g) for name, g in grads[0].items()}
        for slot, g in grads[1].items():
            if slot in slots:
                slots[slot].grad = to_numpy(g)
        for i, g in grads[2].items():
            of_inputs[i] = to_numpy(g)
    return Recording(
        slots, info["order"], info["kinds"],
        {name: to_numpy(x) for name, x in zip(info["outputs"], outputs, strict=True)},
        {name: to_numpy(x) for name, x in state.items()}, of_parameters, of_inputs, float(loss),
        info["dropouts"], info["opaque"],
    )  # fmt: skip


def to_numpy(x: Any) -> np.ndarray:
    """A copy in NumPy; floats as float64."""
    return np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.inexact) else np.asarray(x)


def _cast(array: np.ndarray, dtype: Any) -> jax.Array:
    return jnp.asarray(np.asarray(array).astype(dtype))


def _split(inputs: Arguments, dtype: Any) -> tuple[list[Any], dict[int, Any]]:
    """Leaves that are fixed (None where one is not), and by number those that are arrays."""
    leaves = inputs.leaves
    arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, np.ndarray)}
    dynamic = {i: _cast(x, dtype) if x.dtype.kind == "f" else jnp.asarray(x) for i, x in arrays.items()}
    return [None if i in arrays else x for i, x in enumerate(leaves)], dynamic


def _merged(fixed: Sequence[Any], dynamic: Mapping[int, Any]) -> list[Any]:
    return [dynamic.get(i, x) for i, x in enumerate(fixed)]


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path) or "output", leaf) for path, leaf in leaves]
