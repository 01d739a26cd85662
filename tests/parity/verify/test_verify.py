"""The suite passes where the engines agree, and fails with place and cause where they do not."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flax_resnet.cpu_kernels import build, ops
from flax_resnet.model import ReLU
from flax_resnet.nn.batch_norm import BatchNorm
from parity.__main__ import main
from parity.cause import FAMILIES, Cause
from parity.mutants import run as mutants
from parity.mutants.catalogue import MUTANTS
from parity.result import Check, Finding, Findings
from parity.verify import cases
from parity.verify import run as verify
from parity.verify.case import Case
from parity.verify.environment import environment
from parity.verify.levels import networks, predictions
from recipe.architectures import ModelDescription
from recipe.system.errors import UserError
from tests.parity.helpers import describe, make_checkpoint, save


def make_case(description: ModelDescription, seed: int = 0) -> Case:
    return cases.from_description(description, seed=seed, quick=True)


def run(case: Case, *levels: int) -> dict[str, Check]:
    report = verify.verify(case, levels, lambda check: None)
    return {f"{check.name} {check.precision}": check for check in report.checks}


@pytest.mark.parametrize(
    ("arch", "stem", "levels"),
    [
        ("resnet20", "cifar", (1, 2, 3, 4, 5, 6, 8)),
        ("resnet50", "imagenet", (1, 2)),
        ("resnet18", "cifar_pool", (3,)),
    ],
)
def test_the_engines_agree(arch: str, stem: str, levels: tuple[int, ...]):
    checks = run(make_case(cases.describe(arch, stem, 4), seed=3), *levels)
    assert {name: check.worst for name, check in checks.items() if not check.passed} == {}
    assert {check.level for check in checks.values()} == set(levels)
    compared = {finding.where for check in checks.values() for finding in check.findings}
    if 2 in levels or 3 in levels:
        assert {"conv1", "layer1.0.bn2", "layer2.0.bn1 input", "linear", "logits"} <= compared
    if 4 in levels:
        assert {"loss", "linear dbias", "layer1.0.conv1 dweight", "bn1 dinput"} <= compared


def test_xlas_own_kernels_agree_as_well():
    case = cases.from_description(
        cases.describe("resnet18", "cifar", 8), seed=3, quick=True, cpu_kernels="xla"
    )
    checks = run(case, 4)
    assert {name: check.worst for name, check in checks.items() if not check.passed} == {}
    assert environment(case)["kernels in f32 and bf16"] == "XLA's (config.cpu_kernels=xla)"


def test_native_kernels_are_named_when_they_are_to_blame(monkeypatch: pytest.MonkeyPatch):
    """XLA's kernels are right where these convolutions drop digits, as TF32 does on a GPU."""
    if why_not := build.load():
        pytest.skip(f"no native kernels: {why_not}")
    native = ops.NNX_CONV["conv_general_dilated"]

    def fewer_digits(x: jax.Array, *others: Any, **named: Any) -> jax.Array:
        return native(x.astype(jnp.bfloat16).astype(x.dtype), *others, **named)

    monkeypatch.setitem(ops.NNX_CONV, "conv_general_dilated", fewer_digits)
    checks = run(make_case(cases.describe("resnet20", "cifar", 4)), 2)
    failed = [check for check in checks.values() if not check.passed]
    assert {check.precision for check in failed} == {"f32"}
    alone = next(check for check in failed if "on its own" in check.name)
    assert alone.first_failure is not None
    assert alone.first_failure.where == "conv1"
    assert {check.cause.family for check in failed if check.cause} == {"native kernels"}
    assert all(check.cause for check in failed)
    assert "--cpu-kernels=xla" in alone.cause.words
    assert alone.cause.words.endswith("conv1's argument is rounded to bfloat16")


def test_a_mistake_that_both_kinds_of_kernels_make_is_not_blamed_on_the_native_ones(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(
        BatchNorm.__init__, "__kwdefaults__", BatchNorm.__init__.__kwdefaults__ | {"eps": 1e-3}
    )
    checks = run(make_case(cases.describe("resnet20", "cifar", 4)), 2)
    alone = {check.precision: check for check in checks.values() if "on its own" in check.name}
    for precision in ("f64", "f32"):
        assert alone[precision].cause == Cause("batch norm", "eps is 0.001 instead of 1e-05")


def test_a_wrong_gradient_in_bfloat16_alone_is_found_at_its_layer(monkeypatch: pytest.MonkeyPatch):
    """A whole network's gradients have budgets as large as they are in bfloat16, and can't show it."""

    def wrong(self: ReLU, x: jax.Array) -> jax.Array:
        y = jax.nn.relu(x)
        return 2 * y - jax.lax.stop_gradient(y) if y.dtype == jnp.bfloat16 else y

    monkeypatch.setattr(ReLU, "__call__", wrong)
    checks = run(make_case(cases.describe("resnet20", "cifar", 4)), 4)
    failed = [check for check in checks.values() if not check.passed]
    assert [(check.level, check.precision) for check in failed if "on its own" in check.name] == [(4, "bf16")]
    assert {check.precision for check in failed} == {"bf16"}
    assert failed[0].first_failure is not None
    assert failed[0].first_failure.where == "bn1 doutput"
    assert failed[0].cause.words == "it is 2 times PyTorch's"


def test_trajectories_and_switching():
    checks = run(make_case(cases.describe("resnet20", "cifar", 4)), 7, 9)
    assert {name: check.worst for name, check in checks.items() if not check.passed} == {}
    free = next(check for check in checks.values() if "free-running" in check.name)
    assert [finding.where for finding in free.findings] == [f"step {i}" for i in range(1, 31)]
    assert all(finding.allowed == 1e-9 for finding in free.findings)
    assert any(finding.error > 0 for finding in free.findings)


def test_a_wrong_layer_is_named_with_its_cause(monkeypatch: pytest.MonkeyPatch):
    """One layer of many, by a part in a million."""
    original = BatchNorm.__call__

    def wrong(self: BatchNorm, x: jax.Array, **then: Any) -> jax.Array:
        if self.mean.shape == (16,):
            self.eps = 1e-3
        return original(self, x, **then)

    monkeypatch.setattr(BatchNorm, "__call__", wrong)
    case = make_case(cases.describe("resnet18", "cifar", 8))
    alone = next(networks.evaluation(case))
    assert not alone.passed
    assert alone.first_failure is not None
    assert alone.first_failure.where == "layer2.0.bn1"
    assert alone.cause == Cause("batch norm", "eps is 0.001 instead of 1e-05")


def test_nan_in_one_engine_alone_fails(monkeypatch: pytest.MonkeyPatch):
    original = BatchNorm.__call__

    def broken(self: BatchNorm, x: jax.Array, **joined: Any) -> jax.Array:
        y = original(self, x, **joined)
        return jnp.where(y > 0.5, jnp.nan, y)

    monkeypatch.setattr(BatchNorm, "__call__", broken)
    checks = run(make_case(cases.describe("resnet20", "cifar", 4)), 2, 8)
    assert not any(check.passed for check in checks.values() if check.level == 2)
    assert not next(check for name, check in checks.items() if name.startswith("logits")).passed


def test_disagreements_are_allowed_only_between_near_ties(monkeypatch: pytest.MonkeyPatch):
    case = make_case(cases.describe("resnet20", "cifar", 4))
    images, _, _ = predictions.test_set(case)
    allowed = next(iter(predictions.check(case))).findings[0].allowed
    ours, theirs = predictions.flax_resnet.predict.Predictor, predictions.torch_ref.predict.Predictor
    honest = {predictor: predictor.logits for predictor in (ours, theirs)}

    def best_by(predictor: type, gap: float) -> Any:
        """Logits of every image whose best is this much above, or below, the second."""

        def logits(self: Any, images: np.ndarray) -> np.ndarray:
            found = honest[predictor](self, images)
            rows, order = np.arange(len(found)), found.argsort(1)
            found[rows, order[:, -1]] = found[rows, order[:, -2]] + gap
            return found

        return logits

    for times, near in ((1.9, True), (2.1, False)):
        monkeypatch.setattr(theirs, "logits", best_by(theirs, times * allowed))
        monkeypatch.setattr(ours, "logits", best_by(ours, -times * allowed))
        _, found, _ = predictions.check(case)
        assert len(found.findings) == 1 + len(images)
        assert found.passed == near
        assert "image 0: " in found.cause.words


def test_a_checkpoint_of_either_framework_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    checkpoint = make_checkpoint(describe(width=4))
    best = Path("runs") / "checkpoints" / "best"  # of a workdir, which stands for it
    for form, name, given in (("jax", "jax", "jax"), ("torch", "x.pt", "x.pt"), ("jax", best / "5", "runs")):
        save(tmp_path / name, checkpoint, form)
        path = tmp_path / given
        output = tmp_path / f"{form}.json"
        arguments = ["verify", str(path), "--quick", "--levels=1", f"--json={output}"]
        arguments.append(f"--html={tmp_path / 'p.html'}")
        assert main(arguments) == 0
        assert "resnet20" in capsys.readouterr().out
        report = json.loads(output.read_text())
        assert report["passed"]
        assert {check["level"] for check in report["checks"]} == {1}
        assert report["environment"]["torch"] == torch.__version__
        assert "<html" in (tmp_path / "p.html").read_text()


def test_the_exit_code_says_whether_all_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(ReLU, "__call__", lambda self, x: x)
    assert main(["verify", "--arch=resnet20", "--width=4", "--quick", "--levels=2", "--stop"]) == 1
    output = capsys.readouterr().out
    assert "NOT the same" in output
    assert "no activation instead of ReLU" in output
    assert "in layer1.0 input" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch=resnet19"], "unknown architecture 'resnet19'"), (["--levels=0-3"], "--levels takes"),
        (["--levels=x"], "--levels takes"), (["absent.pt"], "no checkpoint at absent.pt"),
        (["--stem=big"], "unknown stem 'big'"),
    ],
)  # fmt: skip
def test_wrong_input_gets_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["verify", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_other_wrong_input_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "text.json").write_text("not json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    for arguments, message in (
        ([], "--help"), (["prove"], "invalid choice: 'prove'"), (['verify', '--seed=-1'], 'no number'),
        (["verify", "--width=x"], "'x' is no number"), (["mutants", "--jobs=0"], "--jobs must be at least 1"),
        (["mutants", "no such mistake"], "no mutant is named like no such mistake"),
        (["verify", f"--mutants={tmp_path / 'text.json'}"], "text.json is not what `mutants --json` writes"),
        (["verify", f"--mutants={tmp_path / 'other.json'}"], "it holds no list of mutants"),
        (["verify", f"--mutants={tmp_path / 'absent.json'}"], "absent.json"),
    ):  # fmt: skip
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1


def test_a_crash_is_no_verdict(tmp_path: Path):
    """Python ends with status 1 then, as `verify` does when a check fails."""
    name = "CHEAP_FIRST = "
    crash = MUTANTS[0]._replace(file="parity/verify/levels/registry.py", old=name, new=f"1 / 0\n{name}")
    result = mutants.attempt(crash, str(tmp_path), 1)
    assert not result["right"]
    assert (result["caught_by"], result["where"]) == ("", "ZeroDivisionError: division by zero")


def test_mutants_are_many_on_both_sides_and_their_code_is_there():
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.file.partition("/")[0] for mutant in MUTANTS} == {"flax_resnet", "torch_ref"}
    for mutant in MUTANTS:
        text = mutants.changed(mutant)
        if mutant.file.endswith(".py"):
            ast.parse(text)  # a mistake, not a typing error
        assert set(mutant.families) <= set(FAMILIES)
        re.compile(mutant.where)


def test_mistakes_that_a_processor_does_not_show_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tiled, paired = (
        next(mutant for mutant in MUTANTS if words in mutant.name)
        for words in ("AMX takes the first 16 images twice", "of two bfloat16 numbers")
    )
    monkeypatch.setattr(mutants, "load", lambda: "")
    for flags, shown in (
        (("avx512_bf16", "amx_bf16"), [tiled]), (("avx512_bf16",), [paired]), (("avx512f",), []),
    ):  # fmt: skip
        monkeypatch.setattr(mutants, "processor_flags", lambda flags=flags: flags)
        monkeypatch.setattr(mutants, "has_amx", lambda flags=flags: "amx_bf16" in flags)
        assert [mutant for mutant in (tiled, paired) if not mutants.why_hidden(mutant)] == shown
    with pytest.raises(UserError, match="it shows on processors with amx_bf16"):
        mutants.run([tiled.name], 1, lambda result: None)
    monkeypatch.setattr(mutants, "processor_flags", lambda: ("avx512_bf16", "amx_bf16"))
    assert mutants.why_hidden(tiled) == "it shows where the compiler and the system know AMX"
    monkeypatch.setattr(mutants, "load", lambda: "no compiler")
    assert mutants.why_hidden(tiled) == "no native kernels: no compiler"
    assert not mutants.why_hidden(MUTANTS[0])
    monkeypatch.setattr(mutants, "attempt", lambda mutant, *_: {"name": mutant.name})
    assert mutants.run(["eps 1e-3", tiled.name], 1, lambda result: None) == [
        {"name": name} for name in ("eps 1e-3", "PyTorch: eps 1e-3")
    ]
    assert f"left out: {tiled.name}: no native kernels" in capsys.readouterr().err


def test_a_mutant_whose_code_has_gone_is_an_error():
    gone = MUTANTS[0]._replace(old="no such code")
    with pytest.raises(UserError, match=r"finds its code 0 times.*parity/mutants/catalogue\.py up to date"):
        mutants.changed(gone)


@pytest.mark.parametrize("name", ["red and blue swapped", "SAME padding", "PyTorch: eps 1e-3"])
def test_planted_mistakes_are_caught_in_a_copy(name: str, tmp_path: Path):
    """Three of the table; `make parity` plants all."""
    (mutant,) = (mutant for mutant in MUTANTS if mutant.name == name)
    before = (mutants.ROOT / mutant.file).read_text()
    result = mutants.attempt(mutant, str(tmp_path), 1)
    assert result["right"], result
    assert (mutants.ROOT / mutant.file).read_text() == before


def test_an_output_that_cannot_be_written_is_an_error_before_the_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for path in (tmp_path, Path("/proc/none/report.html")):
        assert main(["verify", "--width=8", f"--html={path}", f"--json={tmp_path}/r.json"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert str(path.parent) in err
        assert list(tmp_path.iterdir()) == []


def test_a_network_that_does_not_run_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    """An edit that lets shapes not fit: no traceback, but the levels that fail, and where."""

    def halve(self: Any, x: Any) -> Any:
        return x[:, ::2]

    monkeypatch.setattr(ReLU, "__call__", halve)
    case = cases.from_description(describe("resnet18", width=4), seed=0, quick=True)
    found = verify.verify(case, [1, 2, 6], lambda check: None)
    crashes = {check.level: check for check in found.checks if "does not run" in check.name}
    assert set(crashes) == {1, 2}
    for check in crashes.values():
        assert not check.passed
        # the sum of a block's end, which its last batch norm does
        assert re.fullmatch(r"flax_resnet/nn/batch_norm\.py:\d+", check.first_failure.where)
        assert "incompatible shapes" in check.cause.words
    assert any(check.level == 6 and check.passed for check in found.checks)


def test_a_cause_is_asked_for_at_the_first_failure_and_only_there():
    asked: list[str] = []

    def add(where: str, error: float) -> None:
        def why() -> Cause:
            asked.append(where)
            return Cause("unknown", where)

        found.add(Finding(where, error, 1.0), why=why)

    found = Findings()
    add("a", 0.5)
    assert found.check(1, "n", "f64", "u").cause is None
    for where, error in (("b", 2.0), ("c", 0.0), ("d", np.nan)):
        add(where, error)
    assert asked == ["b"]
    check = found.check(1, "n", "f64", "u")
    assert check.cause == Cause("unknown", "b")
    assert [finding.where for finding in check.findings] == ["a", "b", "c", "d"]
