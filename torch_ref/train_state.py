"""Everything that a training step changes: a model and its optimizer, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recipe import initial_weights
from recipe.architectures import ModelDescription
from recipe.state_dict import COUNTER
from recipe.system import matching
from torch_ref.model import ResNet

# config.precision → what convolutions compute in (bf16: under autocast), and what parameters and statistics
# are kept in
DTYPES = {
    "bf16": (torch.bfloat16, torch.float32),
    "f32": (torch.float32, torch.float32),
    "f64": (torch.float64, torch.float64),
}


def make_model(description: ModelDescription, precision: str, device: torch.device) -> ResNet:
    """Build the network in the precision's dtype, on a device, its memory laid out as NHWC."""
    model = ResNet(description).to(device, DTYPES[precision][1])
    return model.to(memory_format=torch.channels_last)


def set_initial_params(model: nn.Module, seed: int) -> None:
    """Fill a network with the recipe's initial weights."""
    params = dict(model.named_parameters())
    drawn = initial_weights.draw(seed, {name: tuple(p.shape) for name, p in params.items()})
    with torch.no_grad():
        for name, param in params.items():
            param.copy_(torch.from_numpy(np.asarray(drawn[name])))


def to_saved(model: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Any]:
    """Return copies of everything on the CPU, as nested dicts of tensors keyed by parameter name.

    Before the first step there are no momentum buffers, and none are saved.
    """
    momentum = {
        name: optimizer.state[param]["momentum_buffer"]
        for name, param in model.named_parameters()
        if optimizer.state[param].get("momentum_buffer") is not None
    }
    return {
        "model": {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()},
        "momentum": {name: tensor.cpu().clone() for name, tensor in momentum.items()},
    }


def from_saved(saved: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.SGD) -> None:
    """Put saved tensors into a model and its optimizer; the inverse of `to_saved`.

    Raises:
      UserError: if a tensor is missing, left over, or of another shape.
    """
    fit(saved["model"], model)
    params = dict(model.named_parameters())
    if saved["momentum"]:
        matching.check(_shapes(saved["momentum"]), _shapes(params), "the momentum does not fit the network")
    optimizer.state.clear()
    for name, buffer in saved["momentum"].items():
        optimizer.state[params[name]]["momentum_buffer"] = torch.empty_like(params[name]).copy_(buffer)


def fit(saved: Mapping[str, Tensor], model: nn.Module) -> None:
    """Load a state dict, name by name, in the network's dtypes. It may lack batch counters, all of them.

    Raises:
      UserError: if a tensor is missing, left over, or of another shape; names all of them.
    """
    state_dict = model.state_dict()
    counters = {name: value for name, value in state_dict.items() if name.endswith(COUNTER)}
    missing = {} if any(name.endswith(COUNTER) for name in saved) else counters
    matching.check(_shapes({**saved, **missing}), _shapes(state_dict))
    model.load_state_dict({**saved, **missing})


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
