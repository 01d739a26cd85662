"""Theorems on known layers, for the values that arrived at them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from parity.budgets.layer_bounds import output_bound
from parity.comparison.recording import Recording, Slot

KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def of_layer(
    module: nn.Module, run: Recording, slot: Slot, training: bool, precision: str
) -> np.ndarray | None:
    """What two sums in any order may differ by in a layer's result; None for other layers."""
    if type(module) not in KNOWN or (isinstance(module, nn.BatchNorm2d) and not module.affine):
        return None
    arguments = [s for s in run.slots if s.call == slot.call and s.side == "in"]
    if len(arguments) != 1 or (isinstance(module, nn.Conv2d) and module.padding_mode != "zeros"):
        return None
    x = torch.from_numpy(run.slots[arguments[0]].value)
    with torch.no_grad():
        return output_bound(module, x, training, precision).numpy()
