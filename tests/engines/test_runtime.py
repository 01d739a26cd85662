"""Devices that the environment asks for, and that are not there."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import torch

from flax_resnet.runtime import start_backend
from parity.__main__ import main
from parity.threads import safe_threads
from recipe.system.errors import UserError
from recipe.system.torch_threads import needs_one_thread
from tests.parity.helpers import describe, make_checkpoint, save
from torch_ref.model import ResNet

ROOT = Path(__file__).parent.parent.parent


def test_pytorch_computes_with_one_thread_where_more_would_write_outside_of_their_memory():
    """Without it, glibc ends this process on processors with AVX-512."""
    narrow, wide = (ResNet(describe("resnet18", width=width)) for width in (8, 16))
    assert (needs_one_thread(narrow), needs_one_thread(wide)) == (True, False)
    assert not needs_one_thread(copy.deepcopy(narrow).double())
    narrow = narrow.to(memory_format=torch.channels_last)
    images = torch.ones(17, 3, 32, 32).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = narrow(images).sum()
            with safe_threads(narrow):
                assert torch.get_num_threads() == 1
                loss.backward()
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend"), AssertionError()])
def test_a_missing_backend_is_one_line_that_names_the_variable(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"^JAX has no backend for JAX_PLATFORMS=cuda: .*unset JAX_PLATFORMS"):
        start_backend()
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(UserError, match=r"^JAX finds no device: (Runtime|Assertion)Error"):
        start_backend()


@pytest.mark.parametrize(
    "variables",
    [
        {"JAX_PLATFORMS": "nonsense"},
        {"JAX_ENABLE_X64": "nonsense"},
        {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_nonsense"},
    ],
)
def test_training_leaves_nothing_where_jax_does_not_start(variables: dict[str, str], tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "main.py", "--config=configs/r18.py:digits", f"--workdir={tmp_path / 'run'}"],
        cwd=ROOT, env=os.environ | variables, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "nonsense" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["convert", "inspect", "verify"])
def test_commands_of_parity_say_so_too(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    source = str(save(tmp_path / "net", make_checkpoint(describe()), "jax"))
    monkeypatch.setenv("XLA_FLAGS", "--xla_nonsense")
    assert main([command, source, *([str(tmp_path / "new.pt")] if command == "convert" else [])]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Unknown flag in XLA_FLAGS: --xla_nonsense" in output.err
    assert len(output.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
