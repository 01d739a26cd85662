"""`parity.compare` of the pairs of `outside`: mistakes are named at their place, rewritings are none."""

from __future__ import annotations

from typing import Any

import pytest

import parity
from parity.comparison.text import render
from tests.parity.comparison.outside.kinds import Mutant, Rewriting
from tests.parity.comparison.outside.mutants import MUTANTS, REWRITINGS
from tests.parity.comparison.outside.pairs import load

QUICK = (
    "no ReLU behind a batch norm", "padding token learns", "no scale of the scores",
)  # fmt: skip


def of(mutants: Any) -> Any:
    """Parameters of a test."""
    return pytest.mark.parametrize("mutant", mutants, ids=[f"{m.pair}: {m.name}" for m in mutants])


@of([m for m in MUTANTS if m.name in QUICK])
def test_mistakes_in_pairs_of_others(mutant: Mutant):
    found(mutant)


@pytest.mark.heavy
@of([m for m in MUTANTS if m.name not in QUICK])
def test_all_mistakes_in_pairs_of_others(mutant: Mutant):
    found(mutant)


def found(mutant: Mutant) -> None:
    """The mistake is found at its place and with its family.

    A variance in one pass is less exact, all else is different.
    """
    precisions = ("f64", "f32") if mutant.family == "precision" else ("f64",)
    report = parity.compare(**load(mutant.pair, mutant), precisions=precisions)
    differences = report.differences
    if mutant.name == "variance in one pass":
        differences = report.less_exact
    else:
        assert not report.passed
    at = mutant.where if mutant.family != "dropout" else ""
    here = [d for d in differences if any(is_at(at, p) for one in d.places for p in (one.torch, one.flax))]
    assert here, render(report)
    assert mutant.family in {d.family for d in here}, render(report)


def is_at(where: str, path: str) -> bool:
    """Whether a path is a module, one of its turns, or in it."""
    return path == where or path.startswith((f"{where}.", f"{where} (")) or not where


@pytest.mark.heavy
@pytest.mark.parametrize("change", REWRITINGS, ids=lambda r: f"{r.pair}: {r.name}")
def test_rewritings_are_the_same(change: Rewriting):
    report = parity.compare(**load(change.pair, change))
    assert report.passed, render(report)


@pytest.mark.parametrize("pair", ["vision", "text", "recurrent"])
def test_pairs_of_others_are_the_same(pair: str):
    report = parity.compare(**load(pair))
    assert report.passed, render(report)
