"""Where a network's gradient jumps: a ReLU decides by a sign, a max-pool by the largest of its window.

Rounding may turn a decision whose margin is no larger than the error of the numbers it rests on. Then the
gradient jumps, and neither result is wrong. Whether one run meets such a turn is chance; so a budget for
float32 gradients must not rest on the turns that a few runs of the reference happened to meet. In float64
the reference therefore makes its decisions on numbers with noise as large as a correct program may be
off, which turns each doubtful decision in about every second run. Values are left as they are.

In float64 doubtful decisions are rarer by 2⁻²⁹; in bfloat16 they are so many that norms average over them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from parity.budgets.reference import K

# in all their forms: as functions, as methods, and in place
DECISIONS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.max_pool2d)

T = TypeVar("T")


class Recording(TorchFunctionMode):
    """Keeps the input of every decision, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`."""
        if func in DECISIONS:
            self.inputs.append(args[0].detach().clone())
        return func(*args, **(kwargs or {}))


class Uncertain(TorchFunctionMode):
    """Makes every decision on its input plus uniform noise; draws other noise whenever it is entered.

    Args:
      margins: the largest noise of every decision, in order.
      seed: draws the noise.
    """

    def __init__(self, margins: Sequence[float], seed: int = 0):
        super().__init__()
        self.margins, self.generator = margins, torch.Generator().manual_seed(seed)

    def __enter__(self) -> Self:
        """Start with the first decision."""
        self.left = list(reversed(self.margins))
        super().__enter__()
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, or what it would be with the decisions of the noisy input."""
        kwargs = kwargs or {}
        if func not in DECISIONS:
            return func(*args, **kwargs)
        x, margin = args[0], self.left.pop()
        # drawn on the CPU, where the generator is, whatever device computes
        drawn = torch.rand(x.shape, generator=self.generator, dtype=x.dtype).to(x.device)
        noisy = x.detach() + margin * (2 * drawn - 1)
        if func is not F.max_pool2d:
            passed = (noisy > 0).to(x.dtype)
            in_place = func.__name__.endswith("_") or kwargs.get("inplace") or True in args[1:]
            return x.mul_(passed) if in_place else x * passed
        _, chosen = F.max_pool2d(noisy, *args[1:], **{**kwargs, "return_indices": True})
        return x.flatten(2).gather(2, chosen.flatten(2)).view(chosen.shape)


def uncertain(run: Callable[[T], object], f32: T, f64: T, seed: int = 0) -> Uncertain:
    """Decisions with the margins of a run: K times the largest error of float32 at each.

    Args:
      run: runs the reference.
      f32: what `run` is given to run in float32.
      f64: the same for float64.
      seed: draws the noise.
    """
    with Recording() as low:
        run(f32)
    with Recording() as high:
        run(f64)
    pairs = zip(low.inputs, high.inputs, strict=True)
    return Uncertain([K * float((a - b).abs().max()) for a, b in pairs], seed)
