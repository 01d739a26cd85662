"""Theorems on known layers, for the values and gradients that arrived at them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from parity.budgets.layer_bounds import gradient_bounds, output_bound, statistics_bound
from parity.comparison.recording import Call, Key, Pins, Recording, Slot
from parity.comparison.sides.torch_side import TorchSide
from parity.comparison.weights import rounded

KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


class Bounds:
    """What two sums in any order may differ by, where a known layer was pinned.

    Args:
      side: PyTorch's network.
      run: its pinned run.
      pins: what replaces values and gradients in it, as float64 has them.
      training: the mode.
      precision: of the run that is compared with it.
    """

    def __init__(self, side: TorchSide, run: Recording, pins: Pins, training: bool, precision: str):
        self._side, self._run, self._pins = side, run, pins
        self._training, self._precision = training, precision
        self._gradients: dict[Call, dict[str, np.ndarray] | None] = {}

    def __call__(self, key: Key) -> np.ndarray | None:
        """The bound of one value, gradient or statistic, in PyTorch's layout; None if no theorem is known."""
        what, where = key
        if isinstance(where, Slot):
            call = where.call
            if what == "value" and where.side == "out":
                return self._of_output(call)
            if what == "grad" and where.side == "in":
                found = self._of_gradients(call)
                return None if found is None else found["input"]
            return None
        path, _, leaf = str(where).rpartition(".")
        calls = [call for call in self._run.order if call[0] == path]
        if what == "state" and len(calls) == 1:
            return self._of_statistic(calls[0], leaf)
        if what == "param" and calls:
            parts = [(self._of_gradients(call) or {}).get(leaf) for call in calls]
            known = [part for part in parts if part is not None]
            return np.sum(known, axis=0) if len(known) == len(parts) else None  # a layer may run twice
        return None

    def _layer(self, call: Call) -> tuple[nn.Module, Slot] | None:
        """The module, if it is a known one, and where its only argument arrives."""
        module = self._side.module(call[0])
        if type(module) not in KNOWN:
            return None
        if isinstance(module, nn.BatchNorm2d) and not (module.affine and module.track_running_stats):
            return None
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            return None
        arguments = [slot for slot in self._run.slots if slot.call == call and slot.side == "in"]
        return (module, arguments[0]) if len(arguments) == 1 else None

    def _of_output(self, call: Call) -> np.ndarray | None:
        found = self._layer(call)
        if found is None:
            return None
        module, slot = found
        x = self._passed_on(slot)
        with torch.no_grad():
            return output_bound(module, x, self._training, self._precision).numpy()

    def _of_statistic(self, call: Call, leaf: str) -> np.ndarray | None:
        found = self._layer(call)
        if found is None or leaf not in ("running_mean", "running_var") or found[0].momentum is None:
            return None
        module, slot = found
        assert isinstance(module, nn.BatchNorm2d)
        with torch.no_grad():
            x = self._passed_on(slot)
            mean, var = statistics_bound(module, x, self._precision)
        return (mean if leaf == "running_mean" else var).numpy()

    def _of_gradients(self, call: Call) -> dict[str, np.ndarray] | None:
        if call not in self._gradients:
            self._gradients[call] = self._new_gradients(call)
        return self._gradients[call]

    def _new_gradients(self, call: Call) -> dict[str, np.ndarray] | None:
        found = self._layer(call)
        gradient = self._passed_back(Slot(*call, "out", 0))
        if found is None or gradient is None:
            return None
        module, slot = found
        if not all(parameter.requires_grad for parameter in module.parameters()):
            return None
        bounds = gradient_bounds(module, self._passed_on(slot), gradient, self._precision, self._training)
        return {name: bound.numpy() for name, bound in bounds.items()}

    # what arrives at a layer is what a pin puts there, not what is in front of the pin
    def _passed_on(self, slot: Slot) -> Tensor:
        pin = self._pins.get(slot)
        return torch.from_numpy(
            self._run.slots[slot].value if pin is None else rounded(pin.value, self._precision)
        )

    def _passed_back(self, slot: Slot) -> Tensor | None:
        pin = self._pins.get(slot)
        if pin is not None and pin.backwards and pin.grad is not None:
            return torch.from_numpy(rounded(pin.grad, self._precision))
        arriving = self._run.slots.get(slot)
        return None if arriving is None or arriving.grad is None else torch.from_numpy(arriving.grad)
