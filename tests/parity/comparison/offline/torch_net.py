"""PyTorch's half of a small pair: images, token ids and a mask in, statistics, tied and integer tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import parity


class Net(nn.Module):
    """A convolution with a batch norm, an embedding under a mask, and a linear layer behind both."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.embedding, self.out = nn.Embedding(7, 4), nn.Linear(4 * 16 + 4, 5)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("scale", torch.tensor([0.5, 2.0]).bfloat16(), persistent=False)

    def forward(self, images: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """(batch, 3, 8, 8), (batch, length), the same → (batch, 5)."""
        x = torch.relu(self.norm(self.conv(images))).flatten(1)
        weights = mask[..., None].to(x.dtype)
        y = (self.embedding(tokens) * weights).sum(1) / weights.sum(1)
        return self.out(torch.cat([x, y], 1)) * self.gain


def torch_half(seed: int = 0, shift: float = 0.0) -> parity.TorchHalf:
    """The network with random weights."""
    torch.manual_seed(0)
    model, rng = Net(), np.random.default_rng(0)
    images = rng.normal(size=(3, 3, 8, 8)).astype(np.float32) + shift
    tokens, mask = rng.integers(0, 7, (3, 6)), rng.random((3, 6)) < 0.7
    return parity.TorchHalf(
        model, parity.Arguments(images, tokens=tokens, mask=mask), optimizer=sgd, seed=seed,
        call=lambda m, x, train, **rest: m(x, **rest),
        allow=[("*.running_var", "Flax keeps the biased variance")],
    )  # fmt: skip


def sgd(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimizer that is compared."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def other_seed() -> parity.TorchHalf:
    """A contradiction."""
    return torch_half(seed=1)


def other_inputs() -> parity.TorchHalf:
    """A contradiction."""
    return torch_half(shift=1.0)


def other_weights() -> parity.TorchHalf:
    """A contradiction."""
    half = torch_half()
    nn.init.normal_(half.model.out.bias)
    return half


def other_code() -> parity.TorchHalf:
    """A contradiction."""
    half = torch_half()
    half.call = lambda m, x, train, **rest: m(x, **rest).tanh()
    return half


def other_precision() -> parity.TorchHalf:
    """A contradiction."""
    half = torch_half()
    half.precisions = ["bf16"]
    return half


def without_optimizer() -> parity.TorchHalf:
    """A contradiction."""
    half = torch_half()
    half.optimizer = None
    return half
