"""The two halves of a pair: each has one framework's network, and can be made where the other is missing."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.comparison.inputs import Arguments, as_numpy, in_form, is_float
from recipe.system.errors import UserError, choice

MODES = ("eval", "train")
PRECISIONS = ("f64", "f32", "bf16")


@dataclasses.dataclass
class TorchHalf:
    """A PyTorch module and how it is run; `Pair` says what the fields are.

    Attributes:
      model: `torch_model` of a pair,
      inputs: its `inputs`,
      call: `torch_call`,
      outputs: `torch_outputs`,
      loss: the first of `loss`,
      optimizer: and of `optimizers`.
      modes: as in a pair,
      precisions: and
      allow: and
      keep: and
      seed: and
      name: as well.
    """

    model: Any
    inputs: Any
    call: Callable[..., Any] | None = None
    outputs: Callable[[Any], Any] | None = None
    loss: Callable[[Any], Any] | None = None
    optimizer: Callable[[Any], Any] | None = None
    modes: Sequence[str] = MODES
    precisions: Sequence[str] = ("f64", "f32")
    allow: Sequence[tuple[str, str]] = ()
    keep: Sequence[str] = ()
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
        if isinstance(self.keep, str) or not all(isinstance(one, str) and one for one in self.keep):
            raise UserError(f"keep is a list of patterns of PyTorch's tensors, not {self.keep!r}")
        if is_of(self.model, "flax"):
            raise UserError("torch_model is a network of the other framework: the first is PyTorch's")

    def side(self) -> Any:
        """The network as a side of a comparison."""
        from parity.comparison.sides.torch_side import TorchSide

        if isinstance(self.model, TorchSide):
            return self.model
        return TorchSide(self.model, self.call, self.outputs, self.loss, self.seed)

    @property
    def arguments(self) -> Arguments:
        """The inputs in NumPy."""
        return as_numpy(Arguments.of(self.inputs), "inputs")


@dataclasses.dataclass
class FlaxHalf:
    """A Flax module and how it is run; `Pair` says what the fields are.

    Attributes:
      model: `flax_model` of a pair,
      weights: its `weights`,
      inputs: `flax_inputs`,
      call: `flax_call`,
      outputs: `flax_outputs`,
      loss: the second of `loss`,
      optimizer: and of `optimizers`.
    """

    model: Any
    weights: Any = None
    inputs: Any = None
    call: Callable[..., Any] | None = None
    outputs: Callable[[Any], Any] | None = None
    loss: Callable[[Any], Any] | None = None
    optimizer: Any = None

    def __post_init__(self) -> None:
        """Check what can be checked without a framework.

        Raises:
          UserError: for a network of the other framework.
        """
        if is_of(self.model, "torch"):
            raise UserError("flax_model is a network of the other framework: the first is PyTorch's")

    def arguments(self, given: Arguments, form: str) -> Iterator[tuple[str, Arguments]]:
        """What Flax may be given, likely first, with words where it is a guess.

        Args:
          given: PyTorch's arguments in NumPy.
          form: as `inputs.form_of` names it.
        """
        if self.inputs is not None:
            yield "", self._converted(given, form)
            return
        images = [x for x in given.leaves if is_float(x) and x.ndim >= 4]
        if images:
            yield "", given.map(_channels_last)
        yield ("Flax is given images as PyTorch has them, channels first" if images else ""), given
        if any(is_float(x) and x.ndim == 3 for x in given.leaves):
            words = "Flax is given inputs of three axes with the second one last"
            yield words, given.map(lambda x: np.moveaxis(x, 1, -1) if is_float(x) and x.ndim >= 3 else x)

    def side(self) -> Any:
        """The network as a side of a comparison.

        Raises:
          UserError: if it is no network of Flax.
        """
        from flax import linen, nnx

        from parity.comparison.sides.flax_side import FlaxSide
        from parity.comparison.sides.linen_side import LinenSide
        from parity.comparison.sides.nnx_side import NnxSide

        if isinstance(self.model, FlaxSide):
            return self.model
        settings = (self.call, self.outputs, self.loss)
        if isinstance(self.model, nnx.Module):
            return NnxSide(self.model, *settings)
        if isinstance(self.model, tuple | list) and len(self.model) == 2:
            module, variables = self.model
            if isinstance(module, linen.Module):
                return LinenSide(module, variables, *settings)
        if isinstance(self.model, linen.Module):
            raise UserError("a linen module needs its variables: flax_model=(module, module.init(key, x))")
        kind = type(self.model).__name__
        raise UserError(f"flax_model is an nnx.Module or (linen module, variables), not {kind}")

    def _converted(self, given: Arguments, form: str) -> Arguments:
        made = self.inputs
        if callable(made):
            whole = _takes_all(made)
            made = made(in_form(given, form)) if whole else made(*given.args, **given.kwargs)
        return as_numpy(Arguments.of(made), "flax_inputs")


@dataclasses.dataclass(frozen=True)
class Recorded:
    """In place of a Flax module: its runs, in a folder of `describe` and `record`."""

    folder: str | os.PathLike[str]


def is_of(model: Any, framework: str) -> bool:
    """Whether a model's class, or one that it extends, is of a package."""
    return any(base.__module__.partition(".")[0] == framework for base in type(model).__mro__)


def _takes_all(function: Callable[..., Any]) -> bool:
    """Whether a function has one parameter, named `inputs`."""
    try:
        return list(inspect.signature(function).parameters) == ["inputs"]
    except (TypeError, ValueError):
        return False


def _channels_last(leaf: Any) -> Any:
    return np.ascontiguousarray(np.moveaxis(leaf, 1, -1)) if is_float(leaf) and leaf.ndim >= 4 else leaf
