"""The pairs of `outside` are equal, rewritten or not, and every mistake shows, without the tool."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
import pytest
import torch

from tests.parity.comparison.outside.kinds import Mutant, Rewriting
from tests.parity.comparison.outside.mutants import MUTANTS, REWRITINGS
from tests.parity.comparison.outside.pairs import FILES, PAIRS, load, read
from tests.parity.comparison.outside.running import differences, disturbed, float64, run_flax, unpaired

FAMILIES = {
    "convolution", "linear layer", "batch norm", "normalisation", "running statistics", "activation",
    "wiring", "pooling", "attention", "embedding", "flatten order", "precision", "dropout", "weight tying",
    "missing parameter", "recurrent cell", "gradient", "mapping", "rotary",
}  # fmt: skip


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_is_equal(pair: str, train: bool):
    apart = differences(load(pair), train)
    assert {what.split()[0] for what in apart} >= {"result", "gradient"}
    assert not {what: far for what, far in apart.items() if not far < 1e-10}


@pytest.mark.parametrize("pair", PAIRS)
def test_every_tensor_is_moved(pair: str):
    assert unpaired(load(pair)) == set()


@pytest.mark.parametrize("change", REWRITINGS, ids=lambda r: r.name)
def test_a_rewriting_changes_nothing(change: Rewriting):
    pair = load(change.pair, change)
    apart = differences(pair, train=True)
    assert not {what: far for what, far in apart.items() if not far < 1e-10}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: f"{m.pair}: {m.name}")
def test_a_mistake_shows(mutant: Mutant):
    pair = load(mutant.pair, mutant)
    if mutant.family == "precision":
        right = errors_in_float32(load(mutant.pair), mutant.pair)
        wrong = errors_in_float32(pair, mutant.pair)
        assert any(wrong[what] > 1.5 * right[what] for what in right)
        return
    if unpaired(pair):
        assert mutant.family in ("missing parameter", "weight tying", "mapping")
        return
    if mutant.family == "gradient":
        assert max(differences(pair, train=False, gradients=False).values()) < 1e-10
    for train, gradients in ((False, False), (True, True)):
        if not max(differences(pair, train, gradients).values()) < 1e-7:
            return
    pytest.fail("nothing differs")


def errors_in_float32(pair: dict[str, Any], name: str) -> dict[str, float]:
    """How far Flax's results and statistics in float32 are from the right ones in float64."""
    right = load(name)
    arrays = pair["weights"](disturbed(pair["torch_model"]))
    with float64():
        exact, exact_statistics, _ = run_flax(right, arrays, True, np.float64, False)
    with jax.enable_x64(False):
        rounded, statistics, _ = run_flax(pair, arrays, True, np.float32, False)
    exact, rounded = exact | exact_statistics, rounded | statistics
    return {n: float(np.abs(exact[n] - rounded[n]).max()) for n in exact}


def test_mistakes_are_described():
    models = {pair: load(pair)["torch_model"] for pair in PAIRS}
    places = {p: {name for name, _ in m.named_modules()} | set(m.state_dict()) for p, m in models.items()}
    for mutant in MUTANTS:
        assert mutant.file in FILES
        assert mutant.family in FAMILIES
        assert mutant.where in places[mutant.pair] - {""}
    names = [(m.pair, m.name) for m in MUTANTS]
    assert len(set(names)) == len(names)
    assert {m.family for m in MUTANTS} == FAMILIES


def test_a_mistake_must_fit_its_file():
    mutant = MUTANTS[0]
    with pytest.raises(ValueError, match="occurs 0 times"):
        load(mutant.pair, mutant._replace(old="nowhere"))


def test_pairs_are_small_and_strangers_to_each_other():
    for name in PAIRS:
        pair = load(name)
        assert sum(p.numel() for p in pair["torch_model"].parameters()) < 50_000
        again = load(name)
        assert type(pair["torch_model"]) is not type(again["torch_model"])
        first, second = (p["torch_model"].state_dict().values() for p in (pair, again))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert not re.search(r"import (torch|numpy)", read(name, "flax_net.py"))
        assert not re.search(r"import (jax|flax|numpy)", read(name, "torch_net.py"))
