"""PyTorch's runs, and how far PyTorch itself is off in a lower precision: all that budgets are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from parity.budgets import near_ties
from parity.budgets.reference import UNIT, distance, rounding
from parity.comparison.inputs import Arguments, is_float
from parity.comparison.recording import Arrays, Pin, Pins, Recording
from parity.comparison.sides.torch_side import TorchSide

SAMPLES = 3  # perturbed runs; the largest error counts
Key = tuple[object, ...]  # ("value", slot) | ("grad", slot) | ("param", name) | ("state", name) | …
Errors = dict[Key, float]


class Reference:
    """The PyTorch side with weights and inputs.

    Args:
      side: the network.
      tensors: float tensors by name.
      mapped: names of those that go to Flax; noise is for these alone.
      inputs: its arguments.
      seed: draws noise, and the digits that float32 can't hold.
      gradients: whether runs go backwards.
    """

    def __init__(
        self,
        side: TorchSide,
        tensors: Arrays,
        mapped: frozenset[str],
        inputs: Arguments,
        seed: int,
        gradients: bool,
    ):
        self.side, self.inputs, self.gradients, self._mapped, self._seed = (
            side,
            inputs,
            gradients,
            mapped,
            seed,
        )
        rng = np.random.default_rng([seed, 1])
        self.rough = {n: a.astype(np.float32).astype(np.float64) for n, a in tensors.items()}
        self.fine = {
            n: a * (1 + 2.0**-24 * rng.uniform(-1, 1, a.shape)) if n in mapped else a
            for n, a in self.rough.items()
        }
        self.cotangents: list[np.ndarray] | None = None

    def tensors(self, precision: str) -> Arrays:
        """Weights of a run: with digits that float32 can't hold in float64, so that a cast to it shows."""
        if precision == "bf16":
            return {n: _round(a, "bf16") if n in self._mapped else a for n, a in self.rough.items()}
        return self.fine if precision == "f64" else self.rough

    def outputs(self, training: bool, seed: int | None = None) -> Recording:
        """A forward pass in float64."""
        return self.side.run(self.fine, self.inputs, "f64", training, seed=seed)

    def draw_cotangents(self, outputs: Arrays) -> None:
        """The random linear function of the outputs whose gradients are compared."""
        self.cotangents = [
            np.asarray(
                np.random.default_rng([self._seed, 7, i]).normal(size=o.shape) / np.sqrt(max(o.size, 1)),
                np.float32,
            ).astype(np.float64)
            for i, o in enumerate(outputs.values())
        ]

    def run(
        self,
        weights: str,
        precision: str,
        training: bool,
        *,
        pins: Pins | None = None,
        keep: frozenset[str] | None = None,
    ) -> Recording:
        """A run with the weights of one precision in another (or the same) one."""
        cotangents = self.cotangents if self.gradients else None
        return self.side.run(
            self.tensors(weights),
            self.inputs,
            precision,
            training,
            pins=pins,
            keep=keep,
            cotangents=cotangents,
        )

    def own_errors(
        self, low: str, training: bool, *, pins: Pins | None = None, keep: frozenset[str] | None = None
    ) -> Errors:
        """The largest errors of runs in float32 or bfloat16 beside float64, as `distance` measures them.

        Weights, inputs and pins differ by that precision's rounding from run to run. In float32 an error
        counts as a rounding of the largest element at least.

        Args:
          low: f32 or bf16.
          training: the mode.
          pins: of pinned runs.
          keep: paths of modules to record.
        """
        errors: Errors = {}
        cotangents = self.cotangents if self.gradients else None
        for version, pinned in self._perturbed(low, pins):
            tensors, inputs = version

            def run(
                precision: str, t: Arrays = tensors, x: Arguments = inputs, p: Pins | None = pinned
            ) -> Recording:
                return self.side.run(t, x, precision, training, pins=p, keep=keep, cotangents=cotangents)

            decisions: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
            if pins is None and low == "f32" and self.gradients:
                decisions = near_ties.uncertain(run, "f32", "f64", self._seed)
            found = measured(run(low))
            with decisions:
                exact = measured(run("f64"))
            for key, array in exact.items():
                error = distance(found[key], array, low) if key in found else np.nan
                errors[key] = max(errors.get(key, 0.0), error, rounding(array, low))
        return errors

    def _perturbed(
        self, low: str, pins: Pins | None
    ) -> Iterator[tuple[tuple[Arrays, Arguments], Pins | None]]:
        rng = np.random.default_rng([self._seed, 3])

        def noisy(array: np.ndarray) -> np.ndarray:
            return _round(array * (1 + UNIT[low] * rng.uniform(-0.5, 0.5, array.shape)), "f32")

        for _ in range(SAMPLES):
            tensors = {n: noisy(a) if n in self._mapped else a for n, a in self.rough.items()}
            inputs = self.inputs.map(lambda leaf: noisy(leaf) if is_float(leaf) else leaf)
            pinned = pins and {
                slot: Pin(noisy(pin.value), None if pin.grad is None else noisy(pin.grad))
                for slot, pin in pins.items()
            }
            yield (tensors, inputs), pinned


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
    return found


def rounded_pins(pins: Pins, precision: str) -> Pins:
    """Pins that a precision holds, so that both sides get the same."""
    if precision == "f64":
        return pins
    return {
        slot: Pin(_round(pin.value, precision), None if pin.grad is None else _round(pin.grad, precision))
        for slot, pin in pins.items()
    }


def _round(array: np.ndarray, precision: str) -> np.ndarray:
    if precision == "bf16":
        import ml_dtypes

        return array.astype(ml_dtypes.bfloat16).astype(np.float64)
    return array.astype(np.float32).astype(np.float64)


def disturbed(tensors: Arrays, seed: int) -> Arrays:
    """Tensors with all constant ones drawn anew.

    A scale of 1, a bias of 0 or a layer scale of 1e-6 hides mistakes.
    """
    rng = np.random.default_rng([seed, 0])
    found = {}
    for name, array in tensors.items():
        if array.size and np.ptp(array) == 0:
            first = float(array.flat[0])
            if "var" in name.rpartition(".")[2]:
                array = rng.uniform(0.5, 2, array.shape)
            elif first == 0:
                array = rng.normal(size=array.shape) * (0.3 if array.ndim <= 1 else 0.05)
            else:
                array = max(abs(first), 0.2) * rng.uniform(0.5, 1.5, array.shape)
        found[name] = array
    return found
