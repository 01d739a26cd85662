"""Doubtful decisions of ReLUs and max-pools are turned, others are not, and values stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity.budgets import near_ties as decisions
from parity.budgets.near_ties import Uncertain
from parity.budgets.reference import K, reference_errors, scaled

NET = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.ReLU())


def gradient(x: Tensor, net: nn.Module = NET) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = net(x)
    (grad,) = torch.autograd.grad((y * torch.arange(1.0, y.numel() + 1).view(y.shape)).sum(), x)
    return y.detach(), grad


def test_without_noise_nothing_changes():
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with Uncertain([0.0, 0.0, 0.0]):
        found = gradient(x)
    for ours, theirs in zip(found, gradient(x), strict=True):
        assert torch.equal(ours, theirs)


def test_noise_is_where_the_decisions_are():
    """On whichever device; without a GPU, on the one whose tensors have no content."""
    with Uncertain([1.0, 1.0, 1.0]):
        assert NET(torch.empty(2, 3, 9, 9, device="meta")).device.type == "meta"


def test_only_doubtful_signs_turn():
    x = torch.tensor([1e-7, -1e-7, 3e-6, -3e-6, 1.0, -1.0], dtype=torch.float64)
    uncertain, seen = Uncertain([1e-6]), []
    for _ in range(40):
        with uncertain:
            y, grad = gradient(x, nn.ReLU())
        assert torch.all((y - F.relu(x)).abs() <= 1e-7)
        seen.append((grad != 0).tolist())
    shares = np.mean(seen, axis=0)
    assert 0.2 < shares[0] < 0.8
    assert 0.2 < shares[1] < 0.8
    assert shares[2:].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    "relu",
    [torch.relu, Tensor.relu, torch.relu_, Tensor.relu_, nn.ReLU(inplace=True), lambda x: F.relu(x, True)],
)
def test_every_form_of_a_relu_is_a_decision(relu: Any):
    with decisions.Recording() as kept:
        relu(torch.ones(3))
    assert [x.tolist() for x in kept.inputs] == [[1.0, 1.0, 1.0]]
    x = torch.tensor([1.0, -1.0])
    given, expected = x.clone(), x.clone()
    with Uncertain([0.0]):
        found = relu(given)
    assert torch.equal(found, relu(expected))
    assert torch.equal(given, expected), "in place or not, as it was"


def test_only_doubtful_maxima_turn():
    x = torch.tensor([[5.0, 5.0 + 1e-8], [4.0, 1.0]], dtype=torch.float64).view(1, 1, 2, 2)
    pool, chosen = nn.MaxPool2d(2), set()
    uncertain = Uncertain([1e-6])
    for _ in range(20):
        with uncertain:
            y, grad = gradient(x, pool)
        assert abs(y.item() - 5) <= 1e-8
        chosen.add(int(grad.flatten().argmax()))
    assert chosen == {0, 1}


def test_a_budget_knows_of_a_turn_that_no_sample_met():
    """x·w is 1e-8 by 24 products of which each is about 1: float32 can't know its sign."""
    rng = np.random.default_rng(0)
    row, weights = rng.normal(size=24), rng.normal(size=24)
    row[0] = np.float32(-(row[1:] @ weights[1:]) / weights[0])
    inputs = np.stack([row, *rng.normal(size=(3, 24))])

    def reference(x: np.ndarray, precision: str, chance: bool = True) -> dict[str, np.ndarray]:
        dtype = torch.float32 if precision == "f32" else torch.float64
        w = torch.tensor(weights, dtype=dtype, requires_grad=True)
        z = torch.tensor(x, dtype=dtype) @ w
        if not chance:
            z = z + (1e-3 - z[0].detach()) * torch.tensor([1.0, 0, 0, 0], dtype=dtype)
        (grad,) = torch.autograd.grad(F.relu(z).sum(), w)
        return {"w": grad.numpy().astype(np.float64)}

    jump = np.abs(row).max()
    luckily = reference_errors(lambda x, p: reference(x, p, chance=False), inputs, "f32")
    assert scaled(luckily, "f32")["w"] < jump / 1e4, "samples in which the sign never turns"

    doubtful = decisions.uncertain(lambda p: reference(inputs, p), "f32", "f64")
    assert len(doubtful.margins) == 1
    assert doubtful.margins[0] < 1e-4
    informed = reference_errors(reference, inputs, "f32", doubtful)
    assert informed["w"] >= 0.99 * jump
    assert scaled(informed, "f32")["w"] < K * 1.01 * jump
