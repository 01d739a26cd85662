"""Known mistakes of PyTorch's multi-head attention, which is one module."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from parity.comparison.causes.evidence import Alternative, Evidence, first_like

FAMILY = "attention"


def fused(given: Evidence) -> Iterator[Alternative]:
    """Results of PyTorch's own multi-head attention with one mistake each."""
    module: Any = given.module
    heads, each = module.num_heads, module.head_dim

    def scaled(factor: float) -> Any:
        def change(m: Any) -> None:
            weights = m.in_proj_weight if m.in_proj_weight is not None else m.q_proj_weight
            weights[: m.embed_dim].mul_(factor)
            if m.in_proj_bias is not None:
                m.in_proj_bias[: m.embed_dim].mul_(factor)

        return given.changed(change)

    for words, factor in _scales(each, each * heads).items():
        yield (
            FAMILY,
            f"its scores are scaled by {words} instead of 1/√{each}",
            scaled(factor * math.sqrt(each)),
        )
    for count in _divisors(module.embed_dim):
        if count != heads:

            def change(m: Any, count: int = count) -> None:
                m.num_heads, m.head_dim = count, m.embed_dim // count

            yield FAMILY, f"{count} heads instead of {heads}", given.changed(change)
    if module.in_proj_weight is not None:
        for order in itertools.permutations(range(3)):
            names = ", ".join("qkv"[i] for i in order)
            yield (
                FAMILY,
                f"the fused projection holds {names}",
                given.changed(lambda m, o=order: _reorder(m, o)),
            )
        words = "the fused projection's heads and q, k, v are interleaved the other way"
        for turned in (False, True):
            yield FAMILY, words, given.changed(lambda m, t=turned: _interleave(m, heads, t))
    yield FAMILY, "the mask is not applied", lambda: _unmasked(given)


def _scales(each: int, channels: int) -> dict[str, float]:
    return {
        "1": 1.0, f"1/√{channels}": channels**-0.5, f"1/{each}": 1 / each, f"√{each}": each**0.5,
        f"1/√{each}": each**-0.5, f"{each}^(-1/4)": each**-0.25,
    }  # fmt: skip


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _reorder(module: Any, order: Sequence[int]) -> None:
    for tensor in (module.in_proj_weight, module.in_proj_bias):
        if tensor is not None:
            parts = tensor.chunk(3)
            tensor.copy_(torch.cat([parts[i] for i in order]).clone())


def _interleave(module: Any, heads: int, turned: bool) -> None:
    """Read (3, heads, each) rows as (heads, 3, each), or the other way round."""
    for tensor in (module.in_proj_weight, module.in_proj_bias):
        if tensor is None:
            continue
        first, second = (heads, 3) if turned else (3, heads)
        rows = tensor.reshape(first, second, -1, *tensor.shape[1:])
        tensor.copy_(rows.transpose(0, 1).reshape(tensor.shape).clone())


def _unmasked(given: Evidence) -> np.ndarray:
    kwargs = {
        k: v for k, v in given.kwargs.items() if k not in ("attn_mask", "key_padding_mask", "is_causal")
    }
    twin: Any = copy.deepcopy(given.module)
    assert isinstance(twin, nn.MultiheadAttention)
    return first_like(twin.train(given.training)(*given.args[:3], **kwargs), given.theirs)
