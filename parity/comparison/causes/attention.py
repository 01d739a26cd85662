"""Known mistakes of attention, fused in one module or spread over the layers around it."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.comparison.causes.evidence import Alternative, Evidence, first_like, to_array

FAMILY = "attention"
Heads = tuple[Tensor, Tensor, Tensor]  # q, k, v as (batch, heads, tokens, each)


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


def between(given: Evidence) -> Iterator[Alternative]:
    """What arrives behind an attention, from the projections before it, with one mistake each.

    Projections are looked for among the values that passed before: one with q, k and v, or three. Whether,
    and with how many heads, PyTorch's value is attention of them is tried first; only then are mistakes.
    """
    for q, k, v in _projections(given):
        right = _matching(given, q, k, v)
        if right is None:
            continue
        yield from _spread(given, (q, k, v), *right)


def _spread(given: Evidence, projections: Heads, heads: Heads, scale: float) -> Iterator[Alternative]:
    """Mistakes of an attention that PyTorch does with `heads` and `scale`."""
    each = heads[0].shape[-1]

    def run(heads: Any = heads, scale: float = scale, **how: Any) -> Any:
        return lambda: _merged(heads, scale, given.theirs, **how)

    for words, factor in _scales(each, each * heads[0].shape[1]).items():
        yield FAMILY, f"the scores are scaled by {words}", run(scale=factor)
    yield FAMILY, "softmax goes over the queries", run(axis=-2)
    yield FAMILY, "softmax goes over the heads", run(axis=1)
    yield FAMILY, "no softmax", run(axis=None)
    yield FAMILY, "causal: no token sees later ones", run(causal=True)
    for order in itertools.permutations(range(3)):
        names = ", ".join("qkv"[i] for i in order)
        yield FAMILY, f"{names} in the places of q, k, v", run(tuple(heads[i] for i in order))
    for other in _divisors(heads[0].shape[1] * each):
        for words, split in _splits(*projections, other).items():
            yield FAMILY, f"{other} heads, {words}", run(split, split[0].shape[-1] ** -0.5)


def _projections(given: Evidence) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """q, k and v as (batch, tokens, channels), of values that passed just before."""
    theirs = given.theirs
    if theirs.ndim != 3:
        return
    values = [torch.from_numpy(a) for _, a in given.earlier if a.ndim == 3 and a.shape[0] == theirs.shape[0]]
    for one in values[:6]:
        if one.shape[-1] == 3 * theirs.shape[-1]:
            q, k, v = one.chunk(3, -1)
            yield q, k, v
    alike = [one for one in values if one.shape[-1] == theirs.shape[-1]][:4]
    for v, k, q in itertools.combinations(alike, 3):
        yield q, k, v


def _matching(given: Evidence, q: Tensor, k: Tensor, v: Tensor) -> tuple[Heads, float] | None:
    """The split into heads with which PyTorch's value is attention of q, k, v; None if there is none."""
    for heads in _divisors(q.shape[-1]):
        for split in _splits(q, k, v, heads).values():
            scale = split[0].shape[-1] ** -0.5
            for factor in (scale, 1.0):
                found = _merged(split, factor, given.theirs)
                if found.shape == given.theirs.shape and np.allclose(
                    found, given.theirs, rtol=1e-7, atol=1e-10
                ):
                    return split, factor
    return None


def _splits(q: Tensor, k: Tensor, v: Tensor, heads: int) -> dict[str, Heads]:
    """Ways to split channels into heads: words → q, k, v as (batch, heads, tokens, each)."""
    if q.shape[-1] % heads:
        return {}
    each = q.shape[-1] // heads
    plain = tuple(t.unflatten(-1, (heads, each)).transpose(1, 2) for t in (q, k, v))
    turned = tuple(t.unflatten(-1, (each, heads)).transpose(-1, -2).transpose(1, 2) for t in (q, k, v))
    found = {"one after the other": plain, "heads in the inner axis": turned}
    if q.shape == k.shape == v.shape:
        joined = torch.cat((q, k, v), -1)
        by_head = joined.unflatten(-1, (heads, 3, each)).permute(3, 0, 2, 1, 4)
        found["q, k and v interleaved by head, (heads, 3, each)"] = tuple(by_head)
        inner = joined.unflatten(-1, (heads, each, 3)).permute(4, 0, 2, 1, 3)
        found["q, k and v interleaved by channel, (heads, each, 3)"] = tuple(inner)
    return found


def _merged(
    heads: Sequence[Tensor], scale: float, like: np.ndarray, axis: int | None = -1, causal: bool = False
) -> np.ndarray:
    q, k, v = heads
    scores = q @ k.transpose(-1, -2) * scale
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
    weights = scores if axis is None else scores.softmax(axis)
    return to_array((weights @ v).transpose(1, 2).flatten(2).reshape(like.shape))


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
