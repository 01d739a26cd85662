"""Functions that work element by element, by the words that a report has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "no activation": lambda x: x,
    "ReLU": F.relu,
    "the exact GELU": F.gelu,
    "GELU by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "GELU by the sigmoid of 1.702 x": lambda x: x * torch.sigmoid(1.702 * x),
    "SiLU": F.silu,
    "the sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softmax over the last axis": lambda x: x.softmax(-1),
    "softmax over the second axis": lambda x: x.softmax(1) if x.ndim > 1 else x.softmax(0),
    "log-softmax over the last axis": lambda x: x.log_softmax(-1),
    "a leaky ReLU of slope 0.01": F.leaky_relu,
    "a leaky ReLU of slope 0.2": lambda x: F.leaky_relu(x, 0.2),
    "ELU": F.elu,
    "ReLU6": F.relu6,
    "hard swish": F.hardswish,
    "the hard sigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "Mish": F.mish,
    "the squared ReLU": lambda x: F.relu(x).square(),
    "the exponential": torch.exp,
    "the absolute value": torch.abs,
    "the negative": lambda x: -x,
}
