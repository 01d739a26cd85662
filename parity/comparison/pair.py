"""A pair of networks, as a user describes it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison.inputs import Arguments, as_numpy, is_float
from recipe.system.errors import UserError, choice

MODES = ("eval", "train")
PRECISIONS = ("f64", "f32", "bf16")


@dataclasses.dataclass
class Pair:
    """A PyTorch module and a Flax module that ought to compute the same.

    Attributes:
      torch_model: an `nn.Module`. It is copied; the original is left as it is.
      flax_model: an `nnx.Module`, or (linen module, variables).
      inputs: arrays as PyTorch takes them: a list of positional arguments, a dict of keyword arguments, or
        `parity.Arguments(x, mask=mask)` for both. Each may be a tree; integers and masks are passed as they
        are.
      weights: a function that converts PyTorch's state dict into Flax's tensors; or for some tensors
        {Flax path: (names of PyTorch's tensors, function of them)}, the others are proposed; or None.
      flax_inputs: a function of the same arguments, or of one named `inputs` that is all of them as they
        are here, → Flax's inputs; or those inputs. Without it images (four axes and
        more) get their channels last, if the Flax network takes them so.
      torch_call: (model, *arguments, train=bool) → what the network returns; else `model(*arguments)`.
      flax_call: the same for Flax; of a linen module it gets `apply` in the model's place. Without it the
        mode is passed by an argument such as `train` or `deterministic`, if there is one.
      torch_outputs: what the call returns → the tree of outputs to compare; else all floats in it.
      flax_outputs: the same for Flax.
      modes: of "eval" and "train".
      precisions: of "f64", "f32" and "bf16".
      loss: (function of what PyTorch's call returns, function of what Flax's returns) → a scalar each;
        without it gradients are of a random linear function of the outputs.
      optimizers: (parameters → torch.optim optimizer, optax transformation): their updates are compared as
        well.
      allow: (pattern, reason): differences at modules or tensors whose path in either network fits the
        pattern are shown with the reason, and don't count.
      seed: draws everything random.
      name: of the pair in reports; the classes' names by default.
    """

    torch_model: Any
    flax_model: Any
    inputs: Any
    weights: Any = None
    flax_inputs: Any = None
    torch_call: Callable[..., Any] | None = None
    flax_call: Callable[..., Any] | None = None
    torch_outputs: Callable[[Any], Any] | None = None
    flax_outputs: Callable[[Any], Any] | None = None
    modes: Sequence[str] = MODES
    precisions: Sequence[str] = ("f64", "f32")
    loss: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None
    optimizers: tuple[Callable[[Any], Any], Any] | None = None
    allow: Sequence[tuple[str, str]] = ()
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        """Check what can be checked without a framework.

        Raises:
          UserError: for what is no mode, precision, pattern or network.
        """
        for what, given, valid in (("mode", self.modes, MODES), ("precision", self.precisions, PRECISIONS)):
            if isinstance(given, str) or not given:
                raise UserError(f"{what}s are a list of at least one, such as ({valid[0]!r},), not {given!r}")
            for name in given:
                choice(what, name, valid)
        self.modes = [mode for mode in MODES if mode in self.modes]
        self.precisions = [precision for precision in PRECISIONS if precision in self.precisions]
        for one in self.allow:
            if not (
                isinstance(one, tuple | list) and len(one) == 2 and all(isinstance(x, str) and x for x in one)
            ):
                raise UserError(f'allow is a list of ("pattern", "reason"), not {one!r}')
        for who, model, kind in (("torch", self.torch_model, "torch"), ("flax", self.flax_model, "flax")):
            if _is(model, {"torch": "flax", "flax": "torch"}[kind]):
                raise UserError(f"{who}_model is a network of the other framework: the first is PyTorch's")

    @property
    def arguments(self) -> Arguments:
        """PyTorch's arguments, in NumPy."""
        return as_numpy(Arguments.of(self.inputs), "inputs")

    @property
    def losses(self) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
        """PyTorch's and Flax's."""
        return self.loss or (None, None)

    def flax_arguments(self) -> Iterator[tuple[str, Arguments]]:
        """What Flax may be given, likely first, with words where it is a guess."""
        arguments = self.arguments
        if self.flax_inputs is not None:
            yield "", self._converted(arguments)
            return
        images = [x for x in arguments.leaves if is_float(x) and x.ndim >= 4]
        if images:
            yield "", arguments.map(_channels_last)
        yield ("Flax is given images as PyTorch has them, channels first" if images else ""), arguments
        if any(is_float(x) and x.ndim == 3 for x in arguments.leaves):
            words = "Flax is given inputs of three axes with the second one last"
            yield words, arguments.map(lambda x: np.moveaxis(x, 1, -1) if is_float(x) and x.ndim >= 3 else x)

    def with_inputs(self, inputs: Arguments) -> Pair:
        """The same pair with other numbers in its inputs."""
        given = _as_given(self.inputs, inputs)
        return dataclasses.replace(self, inputs=given)

    def flax_side(self) -> Any:
        """The Flax network as a side of a comparison.

        Raises:
          UserError: if it is no network of Flax.
        """
        from flax import linen, nnx

        from parity.comparison.sides.linen_side import LinenSide
        from parity.comparison.sides.nnx_side import NnxSide

        settings = (self.flax_call, self.flax_outputs, self.losses[1])
        if isinstance(self.flax_model, nnx.Module):
            return NnxSide(self.flax_model, *settings)
        if isinstance(self.flax_model, tuple | list) and len(self.flax_model) == 2:
            module, variables = self.flax_model
            if isinstance(module, linen.Module):
                return LinenSide(module, variables, *settings)
        if isinstance(self.flax_model, linen.Module):
            raise UserError("a linen module needs its variables: flax_model=(module, module.init(key, x))")
        kind = type(self.flax_model).__name__
        raise UserError(f"flax_model is an nnx.Module or (linen module, variables), not {kind}")

    def _call_flax_inputs(self, arguments: Arguments) -> Any:
        assert callable(self.flax_inputs)
        if _takes_all(self.flax_inputs):
            return self.flax_inputs(_as_given(self.inputs, arguments))
        return self.flax_inputs(*arguments.args, **arguments.kwargs)

    def _converted(self, arguments: Arguments) -> Arguments:
        made = self.flax_inputs
        if callable(made):
            made = self._call_flax_inputs(arguments)
        return as_numpy(Arguments.of(made), "flax_inputs")


def _takes_all(function: Callable[..., Any]) -> bool:
    """Whether a function has one parameter, named `inputs`."""
    try:
        return list(inspect.signature(function).parameters) == ["inputs"]
    except (TypeError, ValueError):
        return False


def _as_given(inputs: Any, arguments: Arguments) -> Any:
    """The arguments in the form in which the user gave them: `Arguments`, a list, a dict or one array."""
    if isinstance(inputs, Arguments):
        return arguments
    if isinstance(inputs, dict):
        return arguments.kwargs
    if isinstance(inputs, list | tuple):
        return list(arguments.args)
    return arguments.args[0]


def _channels_last(leaf: Any) -> Any:
    return np.ascontiguousarray(np.moveaxis(leaf, 1, -1)) if is_float(leaf) and leaf.ndim >= 4 else leaf


def _is(model: Any, framework: str) -> bool:
    return any(base.__module__.partition(".")[0] == framework for base in type(model).__mro__)
