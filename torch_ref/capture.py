"""Every layer's input and output, in the order of execution."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn


class Call(NamedTuple):
    """One layer's turn in a forward pass."""

    path: str  # "layer1.0.conv1"
    module: nn.Module
    input: Tensor
    output: Tensor


@contextlib.contextmanager
def record_calls(model: nn.Module) -> Iterator[list[Call]]:
    """Record the calls of all modules inside `model` but containers, in the order in which they finish."""
    calls: list[Call] = []
    with contextlib.ExitStack() as stack:
        for path, module in model.named_modules():
            if path and not isinstance(module, nn.Sequential):

                def hook(module: nn.Module, args: Any, output: Tensor, path: str = path) -> None:
                    calls.append(Call(path, module, args[0], output))

                stack.callback(module.register_forward_hook(hook).remove)
        yield calls
