"""PyTorch's runs, and how far PyTorch itself is off in a lower precision: all that budgets are made of."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from parity.budgets import near_ties
from parity.budgets.reference import UNIT, distance, rounding
from parity.comparison.inputs import Arguments, is_float
from parity.comparison.recording import Arrays, Call, Errors, Key, Pins, Recording, endless
from parity.comparison.sides.torch_side import TorchSide
from parity.comparison.weights import Weights, mapped_pins, rounded, rounded_pins, single

SAMPLES = 3  # perturbed runs; the largest error counts


@dataclasses.dataclass(frozen=True)
class Own:
    """How far PyTorch itself is off.

    Attributes:
      rounding: in a lower precision, by rounding: the largest element, in bfloat16 the norm.
      constants: in float64, by constants that it has in float32, such as tables in buffers.
      norms: whether `rounding` are norms.
    """

    rounding: Errors
    constants: Errors
    norms: bool = False

    def of(self, *keys: Key) -> tuple[float, float]:
        """Both for an array that consists of what is at some places."""
        low = [self.rounding.get(key, 0.0) for key in keys]
        return math.hypot(*low) if self.norms else max(low), max(self.constants.get(key, 0.0) for key in keys)


class Reference:
    """The PyTorch network in one mode.

    Args:
      side: the network.
      weights: its tensors.
      constants: names of those that Flax is not given, so that it has to make them.
      inputs: its arguments.
      training: the mode.
      seed: draws noise.
      cotangents: gradients of the outputs; None if runs don't go backwards.
    """

    def __init__(
        self,
        side: TorchSide,
        weights: Weights,
        constants: frozenset[str],
        inputs: Arguments,
        training: bool,
        seed: int,
        cotangents: Sequence[np.ndarray] | None,
    ):
        self._side, self._weights, self._inputs = side, weights, inputs
        self._rounded = {n: lost for n in sorted(constants) if (lost := _lost(weights.fine[n])).any()}
        self._training, self._seed, self._cotangents = training, seed, cotangents

    def run(
        self, weights: str, precision: str, *, pins: Pins | None = None, keep: frozenset[str] | None = None
    ) -> Recording:
        """A run with the weights of one precision in another (or the same) one."""
        return self._side.run(
            self._weights.of(weights), self._inputs, precision, self._training, pins=pins, keep=keep,
            cotangents=self._cotangents,
        )  # fmt: skip

    def watched(self, weights: str, pins: Pins, keep: frozenset[str], calls: frozenset[Call]) -> Recording:
        """A pinned run in float64 that keeps the arguments of calls."""
        return self._side.run(
            self._weights.of(weights), self._inputs, "f64", self._training,
            pins=rounded_pins(pins, weights), keep=keep, watch=calls,
        )  # fmt: skip

    def own_errors(self, low: str, *, pins: Pins | None = None, keep: frozenset[str] | None = None) -> Errors:
        """The largest errors of runs in float32 beside float64; of bfloat16 the errors' largest norms.

        They are not divided by the values' norms: a gradient may be zero but for rounding, such as that of a
        key's bias.

        Weights, inputs and pins differ by that precision's rounding from run to run. In float32 an error
        counts as a rounding of the largest element at least.

        Args:
          low: f32 or bf16.
          pins: of pinned runs.
          keep: paths of modules to record.
        """
        errors: Errors = {}
        for tensors, inputs, pinned in self._perturbed(low, pins):

            def run(
                precision: str, t: Arrays = tensors, x: Arguments = inputs, p: Pins | None = pinned
            ) -> Recording:
                return self._side.run(
                    t, x, precision, self._training, pins=p, keep=keep, cotangents=self._cotangents
                )

            decisions: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
            if pins is None and low == "f32" and self._cotangents is not None:
                decisions = near_ties.uncertain(run, "f32", "f64", self._seed)
            for key, error in _beside_float64(run, low, decisions).items():
                errors[key] = max(errors.get(key, 0.0), error)
        return errors

    def constant_errors(
        self, exact: Recording, *, pins: Pins | None = None, keep: frozenset[str] | None = None
    ) -> Errors:
        """How far a run in float64 may be off because PyTorch has constants in float32.

        Args:
          exact: the free run.
          pins: of pinned runs.
          keep: paths of modules to record.
        """
        errors: Errors = {}
        if not self._rounded:
            return errors
        rng, right = np.random.default_rng([self._seed, 5]), measured(exact)
        for _ in range(SAMPLES):
            moved = {
                n: self._weights.fine[n] * (1 + lost * UNIT["f32"] / 2 * rng.uniform(-1, 1, lost.shape))
                for n, lost in self._rounded.items()
            }
            run = self._side.run(
                self._weights.fine | moved, self._inputs, "f64", self._training, pins=pins, keep=keep,
                cotangents=self._cotangents,
            )  # fmt: skip
            for key, array in measured(run).items():
                if key in right:
                    errors[key] = max(errors.get(key, 0.0), distance(array, right[key], "f64"))
        return errors

    def _perturbed(self, low: str, pins: Pins | None) -> Iterator[tuple[Arrays, Arguments, Pins | None]]:
        rng = np.random.default_rng([self._seed, 3])

        def noisy(array: np.ndarray) -> np.ndarray:
            factor = 1 + UNIT[low] * rng.uniform(-0.5, 0.5, array.shape)
            return single(rounded(array, "f32") * factor)

        for _ in range(SAMPLES):
            tensors = {n: noisy(a) if n in self._weights.noisy else a for n, a in self._weights.rough.items()}
            inputs = self._inputs.map(lambda leaf: noisy(leaf) if is_float(leaf) else leaf)
            yield tensors, inputs, pins and mapped_pins(pins, noisy)


def _beside_float64(
    run: Callable[[str], Recording], low: str, decisions: contextlib.AbstractContextManager[object]
) -> Errors:
    """The errors of one run in a lower precision. What it computed is gone when the next one begins."""
    # those numbers are float32's, and there are as many of them as the network's values and gradients
    found = {key: array.astype(np.float32) for key, array in measured(run(low)).items()}
    with decisions:
        exact = measured(run("f64"))
    return {
        key: max(distance(found[key], array, low, size=1.0) if key in found else np.nan, rounding(array, low))
        for key, array in exact.items()
    }


def _lost(array: np.ndarray) -> np.ndarray:
    """Where a constant was rounded to float32: its digits go on to the last."""
    return rounded(array, "bf16") != array


def measured(run: Recording) -> dict[Key, np.ndarray]:
    """Everything of a run that is compared."""
    found: dict[Key, np.ndarray] = {("value", slot): passing.value for slot, passing in run.slots.items()}
    found |= {("grad", slot): p.grad for slot, p in run.slots.items() if p.grad is not None}
    found |= {("param", name): grad for name, grad in run.grads.items()}
    found |= {("state", name): array for name, array in run.state.items()}
    found |= {("output", name): array for name, array in run.outputs.items()}
    found |= {("input", i): grad for i, grad in enumerate(run.input_grads) if grad is not None}
    if run.loss is not None:
        found["loss",] = np.asarray(run.loss)
    return {key: endless(array) for key, array in found.items()}
