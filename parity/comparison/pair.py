"""A pair of networks, as a user describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from parity.comparison.halves import MODES, FlaxHalf, TorchHalf


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
      keep: patterns of PyTorch's tensors that stay as they are; other constant ones are drawn anew.
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
    keep: Sequence[str] = ()
    seed: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        """Check what can be checked without a framework.

        Raises:
          UserError: for what is no mode, precision, pattern or network.
        """
        _ = self.torch_half, self.flax_half

    @property
    def torch_half(self) -> TorchHalf:
        """What describes PyTorch's network, and the comparison's settings."""
        loss, optimizer = self.loss or (None, None), self.optimizers or (None, None)
        return TorchHalf(
            self.torch_model, self.inputs, self.torch_call, self.torch_outputs, loss[0], optimizer[0],
            self.modes, self.precisions, self.allow, self.keep, self.seed, self.name,
        )  # fmt: skip

    @property
    def flax_half(self) -> FlaxHalf:
        """What describes Flax's network."""
        loss, optimizer = self.loss or (None, None), self.optimizers or (None, None)
        return FlaxHalf(
            self.flax_model, self.weights, self.flax_inputs, self.flax_call, self.flax_outputs, loss[1],
            optimizer[1],
        )  # fmt: skip
