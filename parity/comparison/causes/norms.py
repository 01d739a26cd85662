"""Known mistakes of norms: batch, layer, group, instance and root-mean-square norms, of anybody's classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from parity.cause import MATCH, UNKNOWN, Cause, first_match, scale_or_rounding
from parity.comparison.causes.evidence import Alternative, Evidence, to_array

EPS = ("eps", "epsilon", "variance_epsilon", "layer_norm_eps", "norm_eps")
VALUES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What a norm would give with one mistake each; nothing for other layers."""
    module: Any = given.module
    name = next((n for n in EPS if isinstance(getattr(module, n, None), int | float)), None)
    if name is None:
        return
    batch = isinstance(module, _BatchNorm)
    family = "batch norm" if batch else "normalisation"
    now = float(getattr(module, name))
    for value in VALUES:
        words = f"eps is {value:g} instead of {now:g}"
        yield family, words, given.changed(lambda m, v=value: setattr(m, name, v))
    weight, bias = (getattr(module, n, None) for n in ("weight", "bias"))
    if isinstance(weight, Tensor):
        yield family, "the scale is not applied", given.changed(lambda m: m.weight.fill_(1.0))
        yield family, "1 + scale instead of scale", given.changed(lambda m: m.weight.add_(1.0))
        yield family, "scale instead of 1 + scale", given.changed(lambda m: m.weight.sub_(1.0))
    if isinstance(bias, Tensor):
        yield family, "the bias is not applied", given.changed(lambda m: m.bias.zero_())
    if isinstance(weight, Tensor) and isinstance(bias, Tensor):
        yield "mapping", "scale and bias are swapped", given.changed(_swap)
    if batch:
        yield from _batch(given, module, now)
        return
    axes = _axes(module, given.x)
    if axes:
        yield from _centred(given, module, now, axes)
    if isinstance(module, nn.GroupNorm):
        for groups in range(1, given.x.shape[1] + 1):
            words = f"{groups} groups instead of {module.num_groups}"
            yield family, words, given.changed(lambda m, g=groups: setattr(m, "num_groups", g))
    yield from _other_axes(given, module, now)


def _batch(given: Evidence, norm: Any, eps: float) -> Iterator[Alternative]:
    x, family = given.x, "batch norm"
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean, biased = x.mean(axes), x.var(axes, correction=0)
    stored = norm.running_mean, norm.running_var
    own = (mean, biased) if given.training or stored[0] is None else stored
    one, zero = torch.ones_like(mean), torch.zeros_like(mean)
    weight = one if norm.weight is None else norm.weight
    bias = zero if norm.bias is None else norm.bias

    def run(m: Any, v: Any, eps: float = eps) -> Tensor:
        return (x - _channels(m, x)) / torch.sqrt(_channels(v, x) + eps) * _channels(weight, x) + _channels(
            bias, x
        )

    if given.training and stored[0] is not None:
        yield family, "it normalises with the running statistics in train mode", lambda: run(*stored)
    else:
        yield family, "it normalises with the batch's statistics in eval mode", lambda: run(mean, biased)
    yield family, "it normalises with the unbiased variance", lambda: run(mean, x.var(axes))
    yield (
        family,
        "its variance is taken about zero, not about the mean",
        lambda: run(mean, x.square().mean(axes)),
    )
    yield family, "the mean is not subtracted", lambda: run(zero, own[1])
    yield family, "it divides by the variance, not by its root", lambda: run(own[0], (own[1] + eps) ** 2, 0.0)
    yield family, "eps is added outside of the root", lambda: run(own[0], (own[1].sqrt() + eps) ** 2, 0.0)
    space = tuple(range(2, x.ndim))
    if space:
        each = x.mean(space, keepdim=True), x.var(space, correction=0, keepdim=True)
        scale, shift = _channels(weight, x), _channels(bias, x)
        words = "statistics of each example alone"
        yield family, words, lambda: (x - each[0]) / torch.sqrt(each[1] + eps) * scale + shift
    half = x[: max(1, len(x) // 2)]
    yield (
        family,
        "statistics of half of the batch",
        lambda: run(half.mean(axes), half.var(axes, correction=0)),
    )


def _axes(module: Any, x: Tensor) -> tuple[int, ...]:
    """Over which axes a norm of single examples goes, if its weight's shape tells."""
    if isinstance(module, nn.GroupNorm) or not isinstance(getattr(module, "weight", None), Tensor):
        return ()
    if "InstanceNorm" in type(module).__name__:
        return tuple(range(2, x.ndim))
    n = module.weight.ndim
    return (
        tuple(range(x.ndim - n, x.ndim)) if tuple(module.weight.shape) == tuple(x.shape[x.ndim - n :]) else ()
    )


def _centred(given: Evidence, module: Any, eps: float, axes: tuple[int, ...]) -> Iterator[Alternative]:
    x, family = given.x, "normalisation"
    weight, bias = module.weight, getattr(module, "bias", None)
    if weight.ndim != len(axes):
        return
    shift = 0.0 if bias is None else bias
    mean = x.mean(axes, keepdim=True)

    def run(centre: Tensor, v: Tensor) -> Tensor:
        return (x - centre) / torch.sqrt(v + eps) * weight + shift

    square = x.square().mean(axes, keepdim=True)
    var = x.var(axes, correction=0, keepdim=True)
    unbiased = x.var(axes, correction=1, keepdim=True)
    zero = torch.zeros_like(mean)
    yield family, "the mean is not subtracted (a root-mean-square norm)", lambda: run(zero, square)
    yield family, "the mean is subtracted (a layer norm)", lambda: run(mean, var)
    yield family, "it normalises with the unbiased variance", lambda: run(mean, unbiased)
    yield family, "the mean is subtracted, but the variance is taken about zero", lambda: run(mean, square)
    deviation = (var.sqrt() + eps) ** 2 - eps
    yield family, "eps is added outside of the root", lambda: run(mean, deviation)
    yield family, "eps is added outside of the root", lambda: run(zero, (square.sqrt() + eps) ** 2 - eps)


def _other_axes(given: Evidence, module: Any, eps: float) -> Iterator[Alternative]:
    x, family = given.x, "normalisation"
    weight, bias = (getattr(module, n, None) for n in ("weight", "bias"))
    scale = 1.0 if weight is None else weight if weight.ndim == x.ndim else _fitting(weight, x)
    shift = 0.0 if bias is None else _fitting(bias, x)
    sets = [(i,) for i in range(x.ndim)] + [tuple(range(1, x.ndim)), tuple(range(2, x.ndim))]
    for axes in sets:
        if axes:
            mean, var = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
            words = f"it normalises over the axes {axes} of PyTorch"
            yield family, words, lambda m=mean, v=var: (x - m) / torch.sqrt(v + eps) * scale + shift


def _fitting(vector: Any, x: Tensor) -> Tensor:
    return vector if vector.ndim != 1 or vector.shape[0] == x.shape[-1] else _channels(vector, x)


def _channels(vector: Any, x: Tensor) -> Tensor:
    return vector.reshape(1, -1, *[1] * (x.ndim - 2))


def _swap(module: Any) -> None:
    weight = module.weight.clone()
    module.weight.copy_(module.bias)
    module.bias.copy_(weight)


def of_statistic(
    norm: Any, x: Tensor, old: np.ndarray, new: np.ndarray, which: str, match: float = MATCH
) -> Cause:
    """Why a running mean or variance after a step is not PyTorch's.

    Args:
      norm: PyTorch's batch norm.
      x: its input, channels second.
      old: the statistic before.
      new: Flax's after the step.
      which: mean or var.
      match: how close the numbers of a mistake have to be.
    """
    family = "running statistics"
    m = float(norm.momentum or 0)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    if which == "mean":
        batch = biased = to_array(x.mean(axes))
    else:
        batch, biased = (to_array(x.var(axes, correction=c)) for c in (1, 0))
    expected = (1 - m) * old + m * batch
    convention = "momentum by the other convention, m·old + (1 − m)·new"
    alternatives: list[tuple[str, str, Callable[[], Any]]] = [
        (family, "the biased variance is stored, without the Bessel factor n/(n − 1)",
         lambda: (1 - m) * old + m * biased),
        (family, convention, lambda: m * old + (1 - m) * batch),
        (family, f"{convention}, and the biased variance (Bessel factor) as well",
         lambda: m * old + (1 - m) * biased),
        (family, "not updated", lambda: old),
        (family, "replaced by the batch's, not averaged", lambda: batch),
        (family, "the deviation instead of the variance", lambda: (1 - m) * old + m * np.sqrt(batch)),
    ]  # fmt: skip
    found = first_match(alternatives, new, match, expected)
    if found:
        return found
    for words, value in (("", batch), (", and the biased variance (Bessel factor) is stored", biased)):
        weights = (new - old) / np.where(value == old, np.inf, value - old)
        if np.ptp(weights) <= match * max(1.0, float(np.abs(weights).max(initial=0))):
            return Cause(
                family, f"momentum is {weights.mean():.6g} instead of {m:g} (as PyTorch counts it){words}"
            )
    return scale_or_rounding(new, expected, match) or UNKNOWN
