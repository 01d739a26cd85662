"""Known mistakes of a batch norm: how it normalises, and how its running statistics move.

The running variance is the batch's unbiased one, n/(n − 1) times the biased (the Bessel factor); what
normalises is the biased one.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.cause import (
    MATCH,
    UNKNOWN,
    Alternatives,
    Cause,
    first_match,
    scale_or_rounding,
)
from parity.engines import to_nhwc


def mistakes(norm: nn.BatchNorm2d, x: Tensor, training: bool) -> Alternatives:
    """Outputs (NHWC) with one mistake each, for PyTorch's input (NCHW)."""
    mean: Any = norm.running_mean
    var: Any = norm.running_var
    batch_mean, biased = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    if training:
        mean, var, other = batch_mean, biased, (norm.running_mean, norm.running_var)
    else:
        other = (batch_mean, biased)

    def run(
        m: Any, v: Any, eps: float = norm.eps, scale: Any = norm.weight, bias: Any = norm.bias
    ) -> np.ndarray:
        c = (None, slice(None), None, None)
        y = (x - m[c]) / torch.sqrt(v[c] + eps)
        return to_nhwc(y * scale[c] + bias[c])

    family, one, zero = "batch norm", torch.ones_like(norm.weight), torch.zeros_like(norm.weight)
    wrong = "running statistics in train mode" if training else "the batch's statistics in eval mode"
    yield family, f"it normalises with the {wrong.removeprefix('the ')}", lambda: run(*other)
    for eps in (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 0.0):
        yield family, f"eps is {eps:g} instead of {norm.eps:g}", functools.partial(run, mean, var, eps)
    yield family, "it normalises with the unbiased variance", lambda: run(mean, x.var((0, 2, 3)))
    about_zero = x.square().mean((0, 2, 3))
    yield family, "its variance is taken about zero, not about the mean", lambda: run(mean, about_zero)
    yield family, "the scale is not applied", lambda: run(mean, var, scale=one)
    yield family, "the bias is not applied", lambda: run(mean, var, bias=zero)
    yield family, "the mean is not subtracted", lambda: run(zero, var)
    yield family, "it divides by the variance, not by its root", lambda: run(mean, (var + norm.eps) ** 2, 0.0)
    yield (
        family,
        "eps is added outside of the root",
        lambda: run(mean, (torch.sqrt(var) + norm.eps) ** 2, 0.0),
    )
    yield family, "scale and bias are swapped", lambda: run(mean, var, scale=norm.bias, bias=norm.weight)
    yield family, "1 + scale instead of scale", lambda: run(mean, var, scale=1 + norm.weight)
    per_image = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    c = (None, slice(None), None, None)
    yield (
        family,
        "statistics of each image alone",
        lambda: to_nhwc(
            (x - per_image[0]) / torch.sqrt(per_image[1] + norm.eps) * norm.weight[c] + norm.bias[c]
        ),
    )
    half = x[: max(1, len(x) // 2)]
    yield (
        family,
        "statistics of half of the batch",
        lambda: run(half.mean((0, 2, 3)), half.var((0, 2, 3), correction=0)),
    )
    yield "activation", "a ReLU too much, behind it", lambda: np.maximum(run(mean, var), 0)


def of_statistics(
    module: nn.BatchNorm2d, x: Tensor, name: str, new: np.ndarray, match: float = MATCH
) -> Cause:
    """Why a running mean or variance after a step is not PyTorch's."""
    old = getattr(module, f"running_{name}").detach().numpy()
    m, n = float(module.momentum or 0), x.numel() // x.shape[1]
    if name == "mean":
        batch = biased = x.mean((0, 2, 3)).detach().numpy()
    else:
        batch, biased = (x.var((0, 2, 3), correction=c).detach().numpy() for c in (1, 0))
    family = "running statistics"
    factor = f"{n / (n - 1):.6f} = n/(n−1) with n = {n}"
    found = first_match(
        [
            (family, f"the biased variance is stored: off by the Bessel factor {factor}",
             lambda: (1 - m) * old + m * biased),
            (family, "momentum by the other convention, m·old + (1 − m)·new",
             lambda: m * old + (1 - m) * batch),
            (family, "momentum by the other convention, and the biased variance (Bessel factor) as well",
             lambda: m * old + (1 - m) * biased),
            (family, "not updated", lambda: old),
            (family, "replaced by the batch's, not averaged", lambda: batch),
            (family, "the deviation instead of the variance", lambda: (1 - m) * old + m * np.sqrt(batch)),
        ],
        new,
        match,
        expected := (1 - m) * old + m * batch,
    )  # fmt: skip
    if found:
        return found
    weights = (new - old) / np.where(batch == old, np.inf, batch - old)
    if np.ptp(weights) <= match:
        return Cause(family, f"momentum is {weights.mean():.6g} instead of {m:g}")
    return scale_or_rounding(new, expected, match) or UNKNOWN
