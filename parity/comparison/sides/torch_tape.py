"""What PyTorch did between two pins, operation by operation, so that it can be done again with a mistake.

A piece between layers has no class whose known mistakes could be tried. Its operations do: every one that
led to a value is kept with its arguments, and the value is made again with one of them changed.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

SILENT = ("batch_norm", "instance_norm")  # write into running statistics, which then keep their version
OUTSIDE = ("torch", "parity", "contextlib")  # packages whose lines are not the network's own


class Value(NamedTuple):
    """A result of a step."""

    step: int
    output: int


@dataclasses.dataclass
class Step:
    """An operation, or something that came from outside: a parameter, a pinned value, an input.

    Attributes:
      name: of the function, without underscores; "" of what came from outside.
      function: itself.
      given: its arguments as leaves: values, and what are no tensors.
      spec: how the leaves were (args, kwargs).
      found: what it gave, as leaves.
      changed: positions of arguments that it writes into.
      line: of the network's code; calls of one line are one statement that ran several times.
      label: what a person calls a thing from outside.
      owned: whether it is a parameter or buffer.
    """

    name: str
    function: Any
    given: list[Any]
    spec: Any
    found: list[Any]
    changed: tuple[int, ...] = ()
    line: str = ""
    label: str = ""
    owned: bool = False

    def run(self, *args: Any, **kwargs: Any) -> list[Any]:
        """What the operation gives for other arguments, as leaves."""
        returned = self.function(*args, **kwargs)
        return _pytree.tree_flatten(args[0] if returned is None else returned)[0]


class Tape(TorchFunctionMode):
    """Keeps every operation that gives tensors.

    Args:
      labels: names of parameters and buffers by `id`.
    """

    def __init__(self, labels: Mapping[int, str]):
        super().__init__()
        self.steps: list[Step] = []
        self._labels, self._values = labels, dict[int, Value]()
        self._pieces = dict[Hashable, Piece | None]()
        self._targets, self.starts = dict[Hashable, Value](), dict[Hashable, int]()

    def arrives(self, key: Hashable, x: Tensor) -> None:
        """A value arrives at a place."""
        self._targets[key] = self._value(x)

    def leaves(self, key: Hashable, label: str, before: Tensor, x: Tensor, pinned: bool) -> None:
        """`before` goes on as `x` behind a place; a pinned value comes from outside."""
        if pinned:
            self.starts[key] = self._outside(x, label).step
        else:
            self._values[id(x)] = self._value(before)

    def piece(self, key: Hashable) -> Piece | None:
        """What led to a place; None if that can't be done again."""
        if key not in self._targets:
            return None
        if key not in self._pieces:
            with torch.no_grad():
                self._pieces[key] = self._checked(Piece(self.steps, self._targets[key]))
        return self._pieces[key]

    @staticmethod
    def _checked(piece: Piece) -> Piece | None:
        try:
            same = torch.equal(piece.again({}, everything=True), piece.value)
        except Exception:  # whatever a stranger's functions make of being called twice
            return None
        for number in piece.order:
            step = piece[number]
            step.found = [x.detach() if isinstance(x, Tensor) else x for x in step.found]
        return piece if same else None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, and keep it."""
        kwargs = kwargs or {}
        flat, spec = _pytree.tree_flatten((args, kwargs))
        tensors = {i: x for i, x in enumerate(flat) if isinstance(x, Tensor)}
        given = [self._value(x) if i in tensors else x for i, x in enumerate(flat)]
        name = getattr(func, "__name__", "")
        if tensors and _writes(name, flat, kwargs):
            value = given[min(tensors)]
            self.steps[value.step].found[value.output] = tensors[min(tensors)].detach().clone()
        before = {i: x._version for i, x in tensors.items()}
        returned = func(*args, **kwargs)
        silently = name in SILENT
        changed = tuple(i for i, x in tensors.items() if silently or x._version != before[i])
        found = _pytree.tree_flatten(args[0] if returned is None and changed else returned)[0]
        if any(isinstance(x, Tensor) for x in found):
            number = len(self.steps)
            self.steps.append(Step(name.strip("_"), func, given, spec, list(found), changed, _line()))
            for output, x in enumerate(found):
                if isinstance(x, Tensor):
                    self._values[id(x)] = Value(number, output)
        return returned

    def _value(self, x: Tensor) -> Value:
        value = self._values.get(id(x))
        if value is not None:
            return value
        label = self._labels.get(id(x), "")
        value = self._outside(x, label or "a constant", bool(label))
        if label:
            self.starts[label] = value.step
        return value

    def _outside(self, x: Tensor, label: str, owned: bool = False) -> Value:
        self.steps.append(Step("", None, [], None, [x], label=label, owned=owned))
        self._values[id(x)] = Value(len(self.steps) - 1, 0)  # the step keeps x, so its id is not used again
        return self._values[id(x)]


class Piece:
    """The steps that led to a value.

    Args:
      steps: of the whole run.
      target: the value.
    """

    def __init__(self, steps: list[Step], target: Value):
        self._steps, self.target = steps, target
        needed, left = {target.step}, [target.step]
        while left:
            for one in steps[left.pop()].given:
                if isinstance(one, Value) and one.step not in needed:
                    needed.add(one.step)
                    left.append(one.step)
        self.order = sorted(needed)

    def __getitem__(self, number: int) -> Step:
        return self._steps[number]

    @property
    def value(self) -> Tensor:
        """What arrived."""
        return self.of(self.target)

    def of(self, value: Value) -> Any:
        """What a step gave."""
        return self._steps[value.step].found[value.output]

    def first(self, number: int) -> Any:
        """The first tensor that a step gave."""
        return next(x for x in self._steps[number].found if isinstance(x, Tensor))

    def arguments(self, number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a step was given."""
        return self._arguments(self._steps[number], {})

    def inputs(self, number: int) -> list[Value]:
        """The values among a step's arguments."""
        return [one for one in self._steps[number].given if isinstance(one, Value)]

    def behind(self, number: int) -> list[int]:
        """The steps that a step's result leads to, in order."""
        found = {number}
        for i in self.order:
            if any(value.step in found for value in self.inputs(i)):
                found.add(i)
        return sorted(found - {number})

    def again(self, edits: Mapping[int, Callable[..., Any]], everything: bool = False) -> Tensor:
        """What arrives where some steps do something else.

        Args:
          edits: by step: a function of its arguments in its place; of its value for what is from outside.
          everything: whether steps run that no edit reaches.
        """
        new: dict[int, list[Any]] = {}
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            for number in self.order:
                step, edit = self._steps[number], edits.get(number)
                if step.function is None:
                    if edit:
                        new[number] = [edit(step.found[0])]
                    continue
                reached = any(value.step in new for value in self.inputs(number))
                if edit or reached or everything:
                    args, kwargs = self._arguments(step, new)
                    returned = edit(*args, **kwargs) if edit else step.run(*args, **kwargs)
                    new[number] = (
                        returned if isinstance(returned, list) else _pytree.tree_flatten(returned)[0]
                    )
        finally:
            torch.set_default_dtype(default)
        target = new.get(self.target.step, self._steps[self.target.step].found)
        return target[self.target.output]

    def _arguments(self, step: Step, new: Mapping[int, list[Any]]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        leaves = []
        for position, one in enumerate(step.given):
            if isinstance(one, Value):
                one = new.get(one.step, self._steps[one.step].found)[one.output]
                one = one.clone() if position in step.changed else one
            leaves.append(one)
        return _pytree.tree_unflatten(leaves, step.spec)

    def called(self, number: int) -> str:
        """What a person calls a step's result: by a name from outside, through steps that only move it."""
        step = self._steps[number]
        if step.function is None:
            return step.label
        inputs = self.inputs(number)
        moved = step.name in MOVES and inputs
        return self.called(inputs[0].step) if moved else f"the result of {step.name}"

    def lines(self) -> Iterable[tuple[int, ...]]:
        """Steps, and before them all steps together that ran the same line of the network's code."""
        by_line: dict[tuple[str, str], list[int]] = {}
        for number in reversed(self.order):
            step = self._steps[number]
            by_line.setdefault((step.name, step.line or str(number)), []).append(number)
        for numbers in by_line.values():
            if len(numbers) > 1:
                yield tuple(numbers)
            yield from ((number,) for number in numbers)


MOVES = (
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze",
    "getitem", "expand", "to", "double", "clone", "get",
)  # fmt: skip


def _writes(name: str, leaves: list[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation writes into its first tensor."""
    return (
        (name.endswith("_") and not name.endswith("__"))
        or name == "__setitem__"
        or bool(kwargs.get("inplace"))
        or (bool(leaves) and leaves[-1] is True and name in ("leaky_relu", "elu", "silu", "hardtanh"))
    )


def _line() -> str:
    """The line of the network's code that runs."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in OUTSIDE:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
