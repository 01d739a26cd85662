"""The third step, where PyTorch is: judge what was recorded, as if both networks were here."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from parity.comparison.halves import TorchHalf
from parity.comparison.inputs import Arguments
from parity.comparison.offline.folder import LEVELS, TENSORS, DescribedTorch, RecordedFlax, digests
from parity.comparison.refusals import listed
from parity.comparison.sides.torch_side import TorchSide
from parity.comparison.torch_mode import TorchMode
from parity.comparison.torch_part import tensors_of
from parity.comparison.weights import Weights
from recipe.system.errors import UserError

SAME = 1e-9  # of the largest output: another machine's float64, and no other network's


class Judging:
    """What a comparison has to be given: PyTorch's network here, and both parts as the folder has them.

    Args:
      half: PyTorch's network.
      folder: with its description and Flax's runs.
      levels: that are asked for.

    Raises:
      UserError: if the folder is of something else.
    """

    def __init__(self, half: TorchHalf, folder: Path, levels: Collection[int]):
        self.torch = _Checked(folder)
        self.flax = RecordedFlax(folder, self.torch)
        _same_settings(half, self.torch, folder, levels)
        self.side = self.torch.side = half.side()
        _same_numbers(self.side, half.arguments, self.torch, folder)


def settings_in(folder: Path) -> dict[str, Any]:
    """Fields of a `TorchHalf` by what the description was made with, inputs too."""
    described = DescribedTorch(folder)
    settings = described.settings
    return {
        "inputs": described.inputs, "modes": settings.modes, "precisions": settings.precisions,
        "seed": settings.seed, "keep": settings.keep,
    }  # fmt: skip


class _Checked(DescribedTorch):
    """A description of a network that is here: its outputs have to be those that were described."""

    side: TorchSide

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._folder = folder

    def mode(self, weights: Weights, training: bool) -> TorchMode:
        """The run in one mode.

        Raises:
          UserError: if the network computes something else now.
        """
        found = super().mode(weights, training)
        now = self.side.run(weights.fine, self.inputs, "f64", training).outputs
        for name, array in found.run.outputs.items():
            far = np.abs(now[name] - array) if name in now and now[name].shape == array.shape else np.inf
            if not np.max(far, initial=0) <= SAME * np.abs(array).max(initial=0):
                raise UserError(
                    f"PyTorch's output {name} in {found.name} mode is not what it was when {self._folder} "
                    "was described, though the weights are: its code changed, so describe it again"
                )
        return found


def _same_settings(half: TorchHalf, described: DescribedTorch, folder: Path, levels: Collection[int]) -> None:
    there = described.settings
    again = "use the same, or describe it again"
    for what, asked, made in (
        ("levels", sorted(levels), described.part.facts[LEVELS]),
        ("modes", half.modes, there.modes),
        ("precisions", half.precisions, there.precisions),
    ):
        if not set(asked) <= set(made):
            raise UserError(
                f"{folder} was described for {what} {_words(made)}, not for {_words(asked)}: {again}"
            )
    for what, ours, theirs in (
        ("seed", half.seed, there.seed),
        ("keep", list(half.keep), list(there.keep)),
        ("a loss", half.loss is not None, there.loss),
        ("an optimizer", half.optimizer is not None, there.optimizer),
    ):
        if ours != theirs:
            raise UserError(f"{folder} was described with {what}: {theirs}, now it is {ours}; {again}")


def _same_numbers(side: TorchSide, inputs: Arguments, described: DescribedTorch, folder: Path) -> None:
    now, then = digests(tensors_of(side)), described.part.facts[TENSORS]
    other = [name for name in {**then, **now} if now.get(name) != then.get(name)]
    if other:
        raise UserError(
            f"weights are not what they were when {folder} was described ({listed(other)}): load them, or "
            "seed them by torch.manual_seed, and describe it again"
        )
    a, b = inputs.leaves, described.inputs.leaves
    if len(a) != len(b) or not all(_equal(x, y) for x, y in zip(a, b, strict=True)):
        raise UserError(
            f"the inputs are not what they were when {folder} was described: give the same, or describe it "
            "again"
        )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def _words(values: Collection[Any]) -> str:
    return ", ".join(map(str, values))
