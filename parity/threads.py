"""PyTorch's threads, for as long as something is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from recipe.system.torch_threads import needs_one_thread


@contextlib.contextmanager
def safe_threads(network: nn.Module) -> Iterator[None]:
    """Let PyTorch compute with one thread in this context, if gradients of the network need that."""
    threads = torch.get_num_threads()
    if needs_one_thread(network):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
