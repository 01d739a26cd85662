"""What passes between the modules of anybody's PyTorch network: kept, and replaced where there is a pin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree  # the one in which libraries register their output classes

from parity.comparison.recording import Call, Passing, Pins, Slot
from parity.comparison.sides.torch_tape import Tape


class Taps:
    """Hooks on every module: what passes is kept, and replaced where there is a pin."""

    def __init__(
        self, model: nn.Module, pins: Pins, keep: frozenset[str] | None, dtype: torch.dtype,
        watch: frozenset[Call], tape: Tape | None = None,
    ):  # fmt: skip
        self._model, self._pins, self._keep, self._dtype, self._watch = model, pins, keep, dtype, watch
        self._tape = tape
        self.arguments: dict[Call, Any] = {}
        self.slots: dict[Slot, Passing] = {}
        self.order: list[Call] = []
        self.kinds: dict[str, str] = {}
        self._turns: dict[str, int] = {}
        self._running: list[Call] = []
        self._handles: list[Any] = []

    def __enter__(self) -> Taps:
        for path, module in self._model.named_modules():
            if path and (self._keep is None or path in self._keep):
                self._handles.append(
                    module.register_forward_pre_hook(self._before(path, module), with_kwargs=True)
                )
                self._handles.append(module.register_forward_hook(self._after, with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def where(self) -> str:
        """The module that is running."""
        return self._running[-1][0] if self._running else ""

    def _before(self, path: str, module: nn.Module) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> Any:
            call = path, self._turns.get(path, -1) + 1
            self._turns[path] = call[1]
            self._running.append(call)
            self.order.append(call)
            self.kinds[path] = type(module).__name__
            flat, spec = _pytree.tree_flatten((args, kwargs))
            once: dict[int, Any] = {}  # a tensor that is given three times is one input
            for number, x in enumerate(flat):
                if id(x) not in once:
                    once[id(x)] = self._tap(x, Slot(*call, "in", number))
            given = _pytree.tree_unflatten([once[id(x)] for x in flat], spec)
            if call in self._watch:
                detached = [
                    x.detach().clone() if isinstance(x, Tensor) else x for x in (once[id(x)] for x in flat)
                ]
                self.arguments[call] = _pytree.tree_unflatten(detached, spec)
            return given

        return hook

    def _after(self, module: nn.Module, args: Any, kwargs: Any, returned: Any) -> Any:
        call = self._running.pop()
        flat, spec = _pytree.tree_flatten(returned)
        flat = [self._tap(x, Slot(*call, "out", number)) for number, x in enumerate(flat)]
        return _pytree.tree_unflatten(flat, spec)

    def _tap(self, x: Any, slot: Slot) -> Any:
        if not is_float_tensor(x):
            return x
        passing = self.slots[slot] = Passing(to_numpy(x))
        if self._tape:
            self._tape.arrives(slot, x)
        pin = self._pins.get(slot)
        if pin is None and not x.requires_grad:
            return x
        value, grad = (None, None) if pin is None else pin[:2]
        passed = _Pin.apply(x, self._tensor(value), grad, passing)
        if self._tape:
            self._tape.leaves(slot, slot.words, x, passed, pin is not None)
        return passed

    def _tensor(self, array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.tensor(array).to(self._dtype)


class _Pin(torch.autograd.Function):
    """Passes a value on, or a pin's; keeps the gradient that arrives, and passes it on, or a pin's."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, value: Tensor | None, grad: np.ndarray | None, passing: Passing
    ) -> Tensor:
        ctx.grad, ctx.passing, ctx.dtype = grad, passing, x.dtype
        return x.clone() if value is None else value.to(x.dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, arriving: Tensor) -> Any:
        ctx.passing.grad = to_numpy(arriving)
        passed = arriving if ctx.grad is None else torch.tensor(ctx.grad).to(ctx.dtype)
        return passed, None, None, None


def to_numpy(tensor: Tensor) -> np.ndarray:
    """A copy in NumPy; floats as float64."""
    found = tensor.detach().cpu()
    if found.dtype.is_floating_point:
        found = found.double()
    found = found.contiguous()
    return (found.clone() if found.data_ptr() == tensor.data_ptr() else found).numpy()


def is_float_tensor(x: Any) -> bool:
    """Whether it is a tensor of floats."""
    return isinstance(x, Tensor) and x.dtype.is_floating_point
