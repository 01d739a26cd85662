"""Distances, budgets and bounds: what may differ by how much."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from parity.budgets.layer_bounds import output_bound, statistics_bound
from parity.budgets.reference import UNIT, K, distance, gamma, perturbed, ratio, reference_errors, scaled
from parity.result import Check, Finding, Report

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5), ([0.0], [0.0], 0.0), ([], [], 0.0), ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([INF, 1.0], [INF, 2.0], 1.0), ([NAN], [1.0], NAN), ([1.0], [NAN], NAN), ([INF], [1.0], NAN),
        ([INF], [-INF], NAN), ([NAN], [INF], NAN), ([1.0, 2.0], [1.0], NAN),
    ],
)  # fmt: skip
def test_distances(a: list[float], b: list[float], expected: float):
    for precision in ("f32", "f64"):
        np.testing.assert_equal(distance(np.array(a), np.array(b), precision), expected)


def test_bfloat16_is_measured_in_norms():
    assert distance(np.array([3.0, 4.0]), np.array([0.0, 4.0]), "bf16") == 0.75
    assert distance(np.zeros(3), np.zeros(3), "bf16") == 0.0
    assert math.isnan(distance(np.array([NAN, 1.0]), np.ones(2), "bf16"))
    assert distance(np.ones(3), np.zeros(3), "bf16") == INF


def test_anything_over_nothing_is_infinite():
    assert [ratio(0, 0), ratio(0, 2), ratio(1, 2), ratio(1, 0)] == [0, 0, 0.5, INF]


@pytest.mark.parametrize(
    ("error", "allowed", "ratio"),
    [
        (0, 0, 0),
        (1, 2, 0.5),
        (3, 2, 1.5),
        (1, 0, INF),
        (NAN, 1, INF),
        (1, NAN, INF),
        (1, -1, INF),
        (INF, 1, INF),
    ],
)
def test_ratios(error: float, allowed: float, ratio: float):
    assert Finding("x", error, allowed).ratio == ratio


def test_nothing_compared_is_nothing_proven():
    assert not Check(1, "empty", "f64", "", ()).passed
    assert not Report("x", {}, (), 0.0, {}).passed


def test_budgets_come_from_the_reference_alone():
    """A float32 sum of a million numbers; its error is known by comparing with the exact sum."""
    inputs = np.random.default_rng(0).normal(size=10**6)

    def reference(x: np.ndarray, precision: str) -> dict[str, np.ndarray]:
        return {"sum": np.cumsum(x.astype({"f32": np.float32, "f64": np.float64}[precision]))[-1:]}

    errors = [
        abs(float(reference(x, "f32")["sum"][0]) - float(reference(x, "f64")["sum"][0]))
        for x in perturbed(inputs, "f32")
    ]
    assert len(errors) >= 8
    assert reference_errors(reference, inputs, "f32") == {"sum": max(errors)}
    found = reference_errors(reference, inputs, "f32")
    assert scaled(found, "f32") == {"sum": K * max(errors)}
    assert scaled(found, "f64") == {"sum": max(errors) * (K * UNIT["f64"] / UNIT["f32"])}


def test_a_result_that_is_right_by_luck_is_still_a_rounded_one():
    """A float32 reference that happens to be exact, next to an infinity that says nothing about the rest."""

    def reference(x: np.ndarray, precision: str) -> dict[str, np.ndarray]:
        return {"loss": np.array(2.5), "more": np.array([-3.0, np.inf, 1.0])}

    assert reference_errors(reference, np.ones(3), "f32") == {"loss": 2.5 * 2.0**-24, "more": 3 * 2.0**-24}
    assert reference_errors(reference, np.ones(3), "bf16") == {"loss": 0.0, "more": 0.0}


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_perturbations_are_of_rounding_size(precision: str):
    inputs = np.random.default_rng(0).normal(size=1000)
    for version in perturbed(inputs, precision):
        assert (version == version.astype(np.float32)).all()
        assert 0.4 * UNIT[precision] < np.abs(version / inputs - 1).max() <= 1.01 * UNIT[precision]


def test_eight_bfloat16_runs_are_not_one():
    """Noise of float32's rounding would leave the bfloat16 roundings, and so a sum's error, as they were."""
    inputs = np.random.default_rng(0).normal(size=(16, 3))
    rounded = [torch.from_numpy(version).to(torch.bfloat16) for version in perturbed(inputs, "bf16")]
    changed = [(a != rounded[0]).double().mean().item() for a in rounded[1:]]
    assert min(changed) > 0.2


def test_gamma_is_highams():
    u = 2.0**-53
    assert gamma(7) == pytest.approx(7 * u / (1 - 7 * u), rel=1e-15)
    assert gamma(7, "f32") == pytest.approx(7 * 2.0**-24, rel=1e-5)


def test_a_convolutions_error_is_within_its_bound_and_the_bound_is_not_loose():
    """Against exact rational arithmetic, for one output at the border and one inside."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 2, 3, stride=2, padding=1, bias=False).double()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    bound = output_bound(conv, x, False, "f64")
    assert bound is not None
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    for row, column in ((0, 0), (1, 2)):
        window = padded[0, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3].flatten().tolist()
        kernel = conv.weight[1].flatten().tolist()
        exact = sum(Fraction(a) * Fraction(b) for a, b in zip(window, kernel, strict=True))
        magnitude = sum(abs(Fraction(a) * Fraction(b)) for a, b in zip(window, kernel, strict=True))
        error = abs(Fraction(conv(x)[0, 1, row, column].item()) - exact)
        allowed = bound[0, 1, row, column].item()
        assert error <= allowed / 2  # the bound is for the difference of two such sums
        assert allowed == pytest.approx(2 * 27 * 2.0**-53 * float(magnitude), rel=1e-6)


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norms_error_is_within_its_bound(training: bool, precision: str):
    """PyTorch's against extended precision, at a mean that is large beside the deviation."""
    torch.manual_seed(0)
    dtype = {"f64": torch.float64, "f32": torch.float32}[precision]
    norm = nn.BatchNorm2d(4).to(dtype).train(training)
    x = torch.randn(8, 4, 5, 5, dtype=dtype) + torch.tensor([0, 3, 100, 1e4])[:, None, None]
    wide_norm = copy.deepcopy(norm).double()
    bound = output_bound(wide_norm, x.double(), training, precision)
    bounds = statistics_bound(wide_norm, x.double(), precision)
    assert bound is not None
    wide = x.numpy().astype(np.longdouble)
    mean, var = np.zeros(4, np.longdouble), np.ones(4, np.longdouble)
    if training:
        mean, var = wide.mean((0, 2, 3)), wide.var((0, 2, 3))
    c = (None, slice(None), None, None)
    exact = (wide - mean[c]) / np.sqrt(var[c] + np.longdouble(norm.eps))
    error = np.abs(norm(x).detach().numpy() - exact)
    assert (error <= bound.detach().numpy() / 2).all()
    if training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        new = 0.1 * mean, 0.9 + 0.1 * wide.var((0, 2, 3), ddof=1)
        for ours, theirs, allowed in zip((norm.running_mean, norm.running_var), new, bounds, strict=True):
            assert (np.abs(ours.numpy() - theirs) <= allowed.detach().numpy() / 2).all()


def test_what_only_moves_values_may_not_differ_at_all():
    x = torch.randn(1, 2, 4, 4)
    for module in (nn.ReLU(), nn.Identity()):
        bound = output_bound(module, x, False, "f64")
        assert bound is not None
        assert not bound.any()
