"""Known mistakes of a single layer, by its kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import nn

from parity.comparison.causes import attention, convolutions, norms, pieces
from parity.comparison.causes.evidence import Alternative, Evidence, as_far_as_it_goes

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What the layer would give with one mistake each."""
    module = given.module
    if isinstance(module, CONVOLUTIONS):
        yield from as_far_as_it_goes(convolutions.mistakes(given))
    elif isinstance(module, TRANSPOSED):
        yield from as_far_as_it_goes(convolutions.transposed_mistakes(given))
    elif isinstance(module, nn.Linear):
        yield from as_far_as_it_goes(_linear(given))
    elif isinstance(module, nn.Embedding):
        yield from as_far_as_it_goes(_embedding(given))
    elif isinstance(module, nn.MultiheadAttention):
        yield from as_far_as_it_goes(attention.fused(given))
    if module is not None:
        yield from as_far_as_it_goes(norms.mistakes(given))
    yield from pieces.mistakes(given)


def _linear(given: Evidence) -> Iterator[Alternative]:
    linear: Any = given.module
    x, w, family = given.x, linear.weight, "linear layer"
    yield family, "the weight is transposed", lambda: F.linear(x, w.T, linear.bias)
    if linear.bias is not None:
        yield family, "the bias is not added", lambda: F.linear(x, w)
        yield family, "the bias is subtracted", lambda: F.linear(x, w, -linear.bias)
        yield family, "the bias is added twice", lambda: F.linear(x, w, 2 * linear.bias)
    yield family, "the inputs are in reverse order", lambda: linear(x.flip(-1))
    yield family, "the outputs are in reverse order", lambda: linear(x).flip(-1)


def _embedding(given: Evidence) -> Iterator[Alternative]:
    table: Any = given.module
    if table.padding_idx is not None:
        is_padding = (given.x == table.padding_idx)[..., None].numpy()
        yield "embedding", "the padding index gives zeros", lambda: np.where(is_padding, 0.0, given.theirs)
