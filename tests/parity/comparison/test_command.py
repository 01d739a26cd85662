"""`python -m parity compare`: its exit status, its files, and modes that can't be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import pytest
import torch
from flax import nnx

import parity
from parity.__main__ import main
from parity.comparison.report import CompareReport
from parity.comparison.text import render
from recipe.system.errors import UserError
from tests.parity.comparison import small

PAIR = """
import numpy as np
import parity
from tests.parity.comparison import small

def pair(**settings):
    return parity.Pair(small.torch_mlp(), small.FlaxMLP(), small.inputs(), precisions=("f64",), **settings)

def other_eps():
    return parity.Pair(small.torch_mlp(), small.FlaxMLP(eps=1e-5), small.inputs(), precisions=("f64",))

def noisy():
    def torch_call(m, x, train):
        return m(x) + (np.random.default_rng().normal() if train else 0)
    return pair(torch_call=torch_call)

def interrupt(grad):
    raise KeyboardInterrupt

def interrupted_in_torch():
    def torch_call(m, x, train):
        if train:
            raise KeyboardInterrupt
        return m(x)
    return pair(torch_call=torch_call)

def interrupted_in_flax():
    def flax_call(m, x, train):
        if train:
            raise KeyboardInterrupt
        return m(x)
    return pair(flax_call=flax_call)

def interrupted_in_backward():
    def torch_call(m, x, train):
        y = m(x)
        if y.requires_grad:
            y.register_hook(interrupt)
        return y
    return pair(torch_call=torch_call)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file with the pairs."""
    path = tmp_path / "pairs.py"
    path.write_text(PAIR)
    return path


@pytest.mark.parametrize(
    ("function", "status", "words"),
    [
        ("pair", 0, "The same: "),
        ("other_eps", 1, "NOT the same: 1 difference"),
        ("noisy", 2, "NOT all compared, the same in the rest: "),
    ],
)
def test_the_exit_status_says_what_was_found(
    file: Path, function: str, status: int, words: str, capsys: pytest.CaptureFixture[str]
):
    written = file.with_suffix(".json"), file.with_suffix(".html")
    flags = ["--quiet", f"--json={written[0]}", f"--html={written[1]}"]
    assert main(["compare", f"{file}:{function}", *flags]) == status
    assert capsys.readouterr().out.splitlines()[-1].startswith(words)
    content = json.loads(written[0].read_text())
    assert content["same"] == (status == 0)
    assert bool(content["not_compared"]) == (status == 2)
    assert ("train mode: PyTorch's output" in written[1].read_text()) == (status == 2)


@pytest.mark.parametrize("place", ["torch", "flax", "backward"])
def test_an_interrupted_comparison_leaves_no_file_behind(
    file: Path, place: str, capsys: pytest.CaptureFixture[str]
):
    before = file.with_name("before.json")
    before.write_text("whole")
    flags = ["--quiet", f"--json={before}", f"--html={file.with_name('new.html')}"]
    assert main(["compare", f"{file}:interrupted_in_{place}", *flags]) == 130
    assert before.read_text() == "whole"
    assert sorted(path.name for path in file.parent.iterdir() if path.is_file()) == ["before.json", file.name]
    assert capsys.readouterr().err == "Interrupted. What was there before is whole.\n"


def compare(**settings: Any) -> CompareReport:
    """The small pair."""
    return parity.compare(small.torch_mlp(), small.FlaxMLP(), small.inputs(), precisions=("f64",), **settings)


def fails_in_training(m: nnx.Module, x: jax.Array, train: bool) -> Any:
    """A call of Flax."""
    if train:
        raise NameError("unbound axis name: batch\nand more")
    return m(x)


def test_training_that_does_not_run_does_not_keep_evaluation_from_being_compared():
    report = compare(flax_call=fails_in_training)
    assert {check.level for check in report.checks} == {1, 2, 4}
    assert not report.differences
    assert not report.passed
    (words,) = report.undone
    assert words.startswith("train mode: ")
    assert "(NameError: unbound axis name: batch)" in words
    assert words in " ".join(render(report).split())


def test_a_mode_that_is_asked_for_alone_is_refused():
    with pytest.raises(UserError, match="NameError: unbound axis name: batch"):
        compare(modes=("train",), flax_call=fails_in_training)


def test_a_network_that_does_not_run_is_refused_in_one_line():
    def fails(m: torch.nn.Module, x: torch.Tensor, train: bool) -> Any:
        return m(x, mask=1)

    with pytest.raises(UserError, match=r"the PyTorch network does not run .*TypeError: ") as refused:
        compare(torch_call=fails)
    assert "\n" not in str(refused.value)
