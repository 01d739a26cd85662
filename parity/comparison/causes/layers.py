"""Known mistakes of a single layer, by its kind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from parity.comparison.causes import attention, convolutions, norms, recurrent
from parity.comparison.causes.activations import ACTIVATIONS
from parity.comparison.causes.evidence import Alternative, Evidence

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What the layer would give with one mistake each."""
    module = given.module
    if isinstance(module, CONVOLUTIONS):
        yield from convolutions.mistakes(given)
    elif isinstance(module, TRANSPOSED):
        yield from convolutions.transposed_mistakes(given)
    elif isinstance(module, nn.Linear):
        yield from _linear(given)
    elif isinstance(module, nn.Embedding):
        yield from _embedding(given)
    elif isinstance(module, nn.MultiheadAttention):
        yield from attention.fused(given)
    elif isinstance(module, nn.RNNCellBase | nn.RNNBase):
        yield from recurrent.mistakes(given)
    if module is not None:
        yield from norms.mistakes(given)
        yield from _settings(given)
    yield from behind(given)
    yield from rearranged(given)


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
    root = math.sqrt(table.embedding_dim)
    yield "embedding", f"multiplied by the root of its size, {root:.6g}", lambda: given.theirs * root
    yield "embedding", f"divided by the root of its size, {root:.6g}", lambda: given.theirs / root
    if table.padding_idx is not None:
        is_padding = (given.x == table.padding_idx)[..., None].numpy()
        yield "embedding", "the padding index gives zeros", lambda: np.where(is_padding, 0.0, given.theirs)


def _settings(given: Evidence) -> Iterator[Alternative]:
    """Settings that activations, pools and other layers keep as attributes."""
    for name, values in {
        "approximate": ("none", "tanh"), "negative_slope": (0.01, 0.1, 0.2), "alpha": (1.0, 0.5),
        "count_include_pad": (True, False), "ceil_mode": (True, False), "align_corners": (True, False),
        "dim": (-1, 0, 1, 2),
    }.items():  # fmt: skip
        now = getattr(given.module, name, None)
        if now is None:
            continue
        family = "pooling" if name in ("count_include_pad", "ceil_mode") else "activation"
        for value in values:
            if value != now:
                words = f"{name} is {value!r} instead of {now!r}"
                yield family, words, given.changed(lambda m, n=name, v=value: setattr(m, n, v))
    scale = next((n for n in ("scale", "scaling", "temperature") if _number(given.module, n)), None)
    if scale:
        now = float(getattr(given.module, scale))
        for words, value in {"1": 1.0, "its square": now**2, "its inverse": 1 / now}.items():
            change = given.changed(lambda m, v=value: setattr(m, scale, v))
            yield "attention", f"{scale} is {words} instead of {now:.6g}", change


def behind(given: Evidence) -> Iterator[Alternative]:
    """An activation too much behind the layer."""
    theirs = torch.from_numpy(given.theirs)
    for name, activation in ACTIVATIONS.items():
        if name != "no activation":
            yield "activation", f"an activation too much behind it: {name}", lambda f=activation: f(theirs)


def rearranged(given: Evidence) -> Iterator[Alternative]:
    """The right numbers at other places."""
    t = given.theirs
    for axis in range(1, t.ndim):
        yield "wiring", f"its axis {axis} is in reverse order", lambda axis=axis: np.flip(t, axis)
    if t.ndim >= 3:
        yield "wiring", "its last two axes are swapped", lambda: _reshaped(t.swapaxes(-1, -2), given.ours)
    yield "wiring", "shifted by one along its second axis", lambda: np.roll(t, 1, 1)
    yield "wiring", "shifted by one along its second axis", lambda: np.roll(t, -1, 1)


def _reshaped(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(like.shape)


def _number(module: Any, name: str) -> bool:
    value = getattr(module, name, None)
    return isinstance(value, int | float) and not isinstance(value, bool) and value != 0
