"""The updates of a user's PyTorch optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from parity.comparison.recording import Arrays
from parity.comparison.sides.torch_side import DTYPES
from parity.comparison.updates import FACTORS
from recipe.system.errors import UserError, first_line


def after(make: Callable[[Any], Any], tensors: Arrays, grads: Arrays, precision: str) -> Arrays:
    """Parameters after some updates, in float64.

    Args:
      make: parameters → torch.optim optimizer.
      tensors: the parameters.
      grads: of those that are updated.
      precision: f64 or f32.

    Raises:
      UserError: if the optimizer fails.
    """
    dtype = DTYPES[precision]
    parameters = {n: torch.nn.Parameter(torch.tensor(tensors[n]).to(dtype)) for n in grads}
    try:
        optimizer = make(list(parameters.values()))
        for factor in FACTORS:
            for name, parameter in parameters.items():
                parameter.grad = torch.tensor(factor * grads[name]).to(dtype)
            optimizer.step()
    except Exception as error:  # a stranger's optimizer may raise anything
        raise UserError(f"PyTorch's optimizer fails ({first_line(error)})") from error
    return {n: p.detach().double().numpy() for n, p in parameters.items()}
