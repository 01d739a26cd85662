"""What a run of either network leaves behind: every value that passed between its modules."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

Arrays = dict[str, np.ndarray]
ENDLESS = 1e37
Call = tuple[str, int]  # a module's path and its turn, from 0
Key = tuple[object, ...]  # ("value", slot) | ("grad", slot) | ("param", name) | ("state", name) | …
Errors = dict[Key, float]


class Slot(NamedTuple):
    """A place where an array enters or leaves a module."""

    path: str  # "encoder.layer.0.attention"
    turn: int  # 0 where the module runs for the first time in a pass
    side: str  # "in" | "out"
    number: int  # among the leaves of the arguments, or of what is returned

    @property
    def call(self) -> Call:
        """The module's turn."""
        return self.path, self.turn

    @property
    def module(self) -> str:
        """The module for a person: "layer1.0.conv1", its second run "layer1.0.conv1 (2)"."""
        return f"{self.path} ({self.turn + 1})" if self.turn else self.path

    @property
    def words(self) -> str:
        """The place for a person: a module's name stands for its result."""
        return self.module if self.side == "out" else f"{self.module}'s argument"


@dataclasses.dataclass
class Passing:
    """What passes a slot: a value forwards, a gradient backwards."""

    value: np.ndarray
    grad: np.ndarray | None = None


class Dropout(NamedTuple):
    """A dropout that would have been applied; comparisons leave it out."""

    path: str  # of the module in which it happens
    rate: float


@dataclasses.dataclass
class Recording:
    """One forward pass and, where gradients were asked for, one backward pass."""

    slots: dict[Slot, Passing]
    order: list[Call]  # in which modules start
    kinds: dict[str, str]  # path → class name
    outputs: Arrays  # by their place in what the network returns; floats only
    state: Arrays  # statistics afterwards
    grads: Arrays  # by parameter
    input_grads: list[np.ndarray | None]  # by leaf of the inputs; None where there is none
    loss: float | None = None
    dropouts: list[Dropout] = dataclasses.field(default_factory=list)
    opaque: dict[str, str] = dataclasses.field(default_factory=dict)  # path or class → why nothing was seen
    unused: frozenset[Call] = frozenset()  # calls whose results nothing depends on
    reached: frozenset[Slot] = frozenset()  # that a gradient may reach; like `unused` known of a description
    arguments: dict[Call, Any] = dataclasses.field(default_factory=dict)  # (args, kwargs) of watched calls
    tape: Any = None  # PyTorch's operations, of a run with watched calls

    def without_slot_gradients(self) -> Recording:
        """The same, without the gradients that arrive between modules."""
        slots = {slot: Passing(passing.value) for slot, passing in self.slots.items()}
        return dataclasses.replace(self, slots=slots)


class Pin(NamedTuple):
    """What replaces a slot's value, and the gradient that arrives there."""

    value: np.ndarray
    grad: np.ndarray | None  # None where none arrives
    backwards: bool = True  # whether the gradient is replaced, too


Pins = dict[Slot, Pin]


def endless(array: np.ndarray) -> np.ndarray:
    """Numbers at the end of float32's range as infinities.

    They are what masks are made of, a dtype's least number and sums of it: which number depends on the dtype,
    and beside its size no other error would count.
    """
    huge = np.abs(array) > ENDLESS
    return np.where(huge, np.copysign(np.inf, array), array) if huge.any() else array
