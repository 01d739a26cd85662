"""PyTorch's part of a comparison: everything that Flax's runs depend on."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection

import numpy as np

from parity.comparison import refusals
from parity.comparison.halves import TorchHalf
from parity.comparison.inputs import form_of
from parity.comparison.levels import with_gradients
from parity.comparison.recording import Arrays
from parity.comparison.sides.torch_side import TorchSide
from parity.comparison.torch_mode import Settings, TorchMode
from parity.comparison.weights import Weights, drawn, single

Progress = Callable[[str], None]


class TorchPart:
    """PyTorch's network, run as it is needed.

    Args:
      half: the network and how it is called.
      settings: of the comparison.
      progress: told what runs.
    """

    def __init__(self, half: TorchHalf, settings: Settings, progress: Progress):
        self.settings, self._progress = settings, progress
        self.side = half.side()
        self.inputs, self.form = half.arguments, form_of(half.inputs)
        progress("running PyTorch")
        self.given = tensors_of(self.side)
        first = self.side.run(self.given, self.inputs, "f64", settings.modes[0] == "train")
        refusals.of_outputs(first)
        self.structure = self.side.structure(first)

    def weights(self, used: Collection[str]) -> Weights:
        """Those with which both networks run; see weights.py.

        What a network makes for itself, and no checkpoint holds, stays as it is.

        Args:
          used: names of the tensors that go to Flax; others stay as they are.
        """
        held = {*self.structure.parameters, *self.structure.persistent}
        kept = {
            n for n in self.given if any(fnmatch.fnmatchcase(n, pattern) for pattern in self.settings.keep)
        }
        return drawn(self.given, (held & set(used)) - kept, self.settings.seed)

    def mode(self, weights: Weights, training: bool) -> TorchMode:
        """A run in one mode.

        Raises:
          UserError: if PyTorch's results can't be compared with anything.
        """
        name = "train" if training else "eval"
        self._progress(f"{name}: running PyTorch in float64")
        first, second = (
            self.side.run(weights.fine, self.inputs, "f64", training, seed=draw) for draw in (0, 1)
        )
        refusals.of_randomness(first, second, name)
        cotangents = None
        if self.settings.gradients:
            cotangents = [
                _cotangent(o, [self.settings.seed, 7, i]) for i, o in enumerate(first.outputs.values())
            ]
        del first, second
        run = self.side.run(weights.fine, self.inputs, "f64", training, cotangents=cotangents)
        refusals.of_outputs(run)
        return TorchMode(training, run, cotangents)


def tensors_of(side: TorchSide) -> Arrays:
    """A network's float tensors as float32 holds them, before anything has run."""
    return {name: single(array) for name, array in side.tensors().items()}


def settings_of(half: TorchHalf, levels: Collection[int]) -> Settings:
    """What both frameworks' runs have in common, for some levels."""
    return Settings(
        tuple(half.modes), tuple(half.precisions), with_gradients(levels), half.seed,
        tuple(half.keep), half.loss is not None, half.optimizer is not None,
    )  # fmt: skip


def _cotangent(output: np.ndarray, seed: list[int]) -> np.ndarray:
    normal = np.random.default_rng(seed).normal(size=output.shape) / np.sqrt(max(output.size, 1))
    return np.asarray(np.asarray(normal, np.float32), np.float64)
