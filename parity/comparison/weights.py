"""The weights with which both networks run, and what a lower precision makes of numbers."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Collection, Mapping

import numpy as np

from parity.comparison.recording import Arrays, Pins

ENDS = {"f32": float(np.finfo(np.float32).max), "bf16": 2.0**127 * (2 - 2.0**-7)}


@dataclasses.dataclass(frozen=True)
class Weights:
    """PyTorch's float tensors by name.

    Attributes:
      rough: as float32 holds them, in float32.
      fine: in float64, with digits that float32 can't hold, so that a cast to it shows.
      noisy: names of those that got such digits, and get noise where errors are measured.
      redrawn: names of those that were constant, and were drawn anew.
    """

    rough: Arrays
    fine: Arrays
    noisy: frozenset[str]
    redrawn: frozenset[str]

    def of(self, precision: str) -> Arrays:
        """The weights of a run, float64."""
        if precision == "f64":
            return self.fine
        return {n: rounded(a, precision if n in self.noisy else "f32") for n, a in self.rough.items()}


def drawn(tensors: Mapping[str, np.ndarray], noisy: Collection[str], seed: int) -> Weights:
    """Weights in which no tensor hides a mistake.

    A scale of 1, a bias of 0 or a layer scale of 1e-6 would. Every tensor has random numbers of its own, so
    what one gets does not depend on which others are drawn.

    Args:
      tensors: float tensors of PyTorch by name; their digits beyond float32's are left out.
      noisy: names of those that may be changed; the others are constants of the network.
      seed: draws.
    """
    rough: Arrays = {}
    fine: Arrays = {}
    redrawn = set()
    for name, array in tensors.items():
        rng = np.random.default_rng([seed, 0, zlib.crc32(name.encode())])
        if name in noisy and array.size and np.ptp(array) == 0:
            array = _anew(name, array, rng)
            redrawn.add(name)
        fine[name] = rounded(array, "f32")
        rough[name] = fine[name].astype(np.float32)
        if name in noisy:
            fine[name] = fine[name] * (1 + 2.0**-24 * rng.uniform(-1, 1, array.shape))
    return Weights(rough, fine, frozenset(noisy), frozenset(redrawn))


def _anew(name: str, array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    first = float(array.flat[0])
    if "var" in name.rpartition(".")[2]:
        return rng.uniform(0.5, 2, array.shape)
    if first == 0:
        return rng.normal(size=array.shape) * (0.3 if array.ndim <= 1 else 0.05)
    return max(abs(first), 0.2) * rng.uniform(0.5, 1.5, array.shape)


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """Float64 numbers that float32 or bfloat16 holds, the nearest ones; of float64 all.

    What is beyond their range becomes its end: a mask's least number of float64 is meant so.
    """
    if precision == "f64":
        return array
    end = ENDS[precision]
    single = np.asarray(np.where(np.isfinite(array), np.clip(array, -end, end), array), np.float32)
    if precision == "bf16":  # half of the bits; the last of them is even where two numbers are as near
        bits = single.view(np.uint32)
        bits = np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000, np.uint32)
        single = bits.view(np.float32)
    return np.asarray(single, np.float64)


def single(array: np.ndarray, precision: str = "f32") -> np.ndarray:
    """The same in float32, which takes half the memory."""
    return rounded(array, precision).astype(np.float32)


def rounded_pins(pins: Pins, precision: str) -> Pins:
    """Pins that a precision holds, so that both sides get the same; to save memory in float32."""
    if precision == "f64":
        return pins
    return mapped_pins(pins, lambda array: single(array, precision))


def mapped_pins(pins: Pins, way: Callable[[np.ndarray], np.ndarray]) -> Pins:
    """Pins with other values and gradients."""
    return {
        slot: pin._replace(value=way(pin.value), grad=None if pin.grad is None else way(pin.grad))
        for slot, pin in pins.items()
    }
