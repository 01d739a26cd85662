"""Initial weights, drawn once by parameter name, so that both engines start from equal numbers.

The distributions are PyTorch's defaults (`torch.nn.Conv2d.reset_parameters` and its siblings): weights
and biases of convolutions and linear layers are uniform in ±1/√fan_in, batch norms start at scale 1
and bias 0.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np


def draw(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Draw every parameter of a network.

    Args:
      seed: any integer ≥ 0.
      shapes: PyTorch's key and shape of every parameter, such as {"conv1.weight": (64, 3, 3, 3)}.

    Returns:
      float64 arrays under the same keys. A parameter depends on nothing but the seed, its name, its
      shape and (for a bias) its layer's weight shape, so neither order nor other layers matter.
    """
    return {name: _draw_one(seed, name, shapes) for name in shapes}


def _draw_one(seed: int, name: str, shapes: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    layer, _, leaf = name.rpartition(".")
    weight_shape = shapes[f"{layer}.weight"]
    if len(weight_shape) == 1:  # a batch norm
        return np.full(shapes[name], 1.0 if leaf == "weight" else 0.0)
    bound = 1 / math.sqrt(math.prod(weight_shape[1:]))
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.uniform(-bound, bound, shapes[name])
