"""The command: what it prints, what it leaves, and what it never does."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

import flax_resnet
import parity.convert.convert
import torch_ref
from parity.__main__ import main
from parity.convert.convert import check_suffix
from parity.convert.files import read
from parity.convert.sources import SUFFIXES
from parity.engines import FlaxNetwork
from recipe import data as datasets
from recipe.system.errors import UserError
from recipe.training import metrics
from tests.parity.helpers import describe, disturb, make_checkpoint, same, save

ROOT = Path(__file__).parents[3]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PyTorch run's checkpoint."""
    return save(tmp_path / "12.pt", make_checkpoint(describe(), step=12), "torch")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_conversion_is_proven_and_told(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["convert", str(source), str(tmp_path / "12")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith(f"{source}: resnet20, cifar stem, width 2")
    assert "a run at step 12" in output[0]
    assert "in float64 (allowed" in output[1]
    assert "in float32 (allowed" in output[1]
    assert output[2] == f"{tmp_path / '12'}: written as a jax checkpoint; read back, every byte is the same"
    assert len(output) == 3
    assert main(["inspect", str(tmp_path / "12")]) == 0
    output = capsys.readouterr().out
    for text in (
        "resnet20, cifar stem, width 2",
        "step:            12",
        "2 steps into the epoch",
        "59 buffers",
    ):
        assert text in output


def test_without_check_nothing_is_computed(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parity.convert.convert, "prove", lambda *_: pytest.fail("was computed"))
    assert main(["convert", str(source), str(tmp_path / "12"), "--no-check"]) == 0


def test_a_failed_proof_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A Flax network that computes something else, by a part in a billion."""
    honest = FlaxNetwork.logits
    monkeypatch.setattr(FlaxNetwork, "logits", lambda *args: honest(*args) * (1 + 1e-9))
    before = tree(tmp_path)
    assert main(["convert", str(source), str(tmp_path / "12")]) == 2
    assert "the two networks disagree" in capsys.readouterr().err
    assert tree(tmp_path) == before
    assert list(tmp_path.iterdir()) == [source]


def test_an_existing_destination_stays_unless_forced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, back in (("jax", "again.pt"), ("soft.safetensors", "third.pt")):
        destination = tmp_path / name
        command = ["convert", str(source), str(destination), "--no-check"]
        assert main(command) == 0
        other = save(tmp_path / f"other_{name}.pt", make_checkpoint(describe(width=4), step=13), "torch")
        before = tree(tmp_path)
        command[1] = str(other)
        assert main(command) == 2
        assert "exists; choose another destination, or replace it with --force" in capsys.readouterr().err
        assert tree(tmp_path) == before
        assert main([*command, "--force"]) == 0
        assert read(destination).description.width == 4
        assert main(["convert", str(destination), str(tmp_path / back), "--no-check"]) == 0
        assert same(read(tmp_path / back).model, read(other).model)
    assert not list(tmp_path.glob(".*"))


def test_what_is_no_checkpoint_is_never_replaced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    for command in (
        ["convert", str(source), str(tmp_path / "home"), "--force"],
        ["convert", str(source), str(tmp_path / "home"), "--force", "--to=torch"],
    ):
        assert main(command) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"


FULL = """
import resource, sys
from parity.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (12 << 10, 12 << 10))
sys.exit(main(["convert", *sys.argv[1:], "--no-check", "--force"]))
"""


@pytest.mark.parametrize("name", ["jax", "new.pt", "new.safetensors"])
def test_a_full_disk_leaves_the_old_checkpoint_whole(name: str, source: Path, tmp_path: Path):
    """As the operating system says it: no file may grow beyond 12 KB."""
    destination = tmp_path / name
    assert main(["convert", str(source), str(destination), "--no-check"]) == 0
    before = tree(destination) if destination.is_dir() else destination.read_bytes()
    command = [sys.executable, "-c", FULL, str(source), str(destination)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: can't write {destination}: ")
    assert len(done.stderr.splitlines()) == 1
    assert (tree(destination) if destination.is_dir() else destination.read_bytes()) == before


SLOW = """
import sys, time
import parity.convert.convert as convert
from parity.__main__ import main
def slow(*_):
    print("written", flush=True)
    time.sleep(60)
convert.compare = slow
sys.exit(main(["convert", *sys.argv[1:], "--no-check", "--force"]))
"""


@pytest.mark.parametrize("name", ["jax", "new.pt"])
def test_a_kill_leaves_the_old_checkpoint_whole(name: str, source: Path, tmp_path: Path):
    """Killed when the new one is written, but not yet in its place."""
    destination = tmp_path / name
    assert main(["convert", str(source), str(destination), "--no-check"]) == 0
    before = tree(destination) if destination.is_dir() else destination.read_bytes()
    other = save(tmp_path / "other.pt", make_checkpoint(describe(width=4), step=13), "torch")
    command = [sys.executable, "-c", SLOW, str(other), str(destination)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "written" not in process.stdout.readline():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert (tree(destination) if destination.is_dir() else destination.read_bytes()) == before
    assert read(destination).step == 12


class Evil:
    """Unpickled with care for nothing, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("command", ["convert", "inspect"])
def test_a_file_that_wants_to_run_code_does_not(
    zipped: bool, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    evil = {"state_dict": {"conv1.weight": torch.ones(2), "bn1.weight": Evil(tmp_path / "was_here")}}
    torch.save(evil, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    arguments = [
        command,
        str(tmp_path / "evil.pth"),
        *([str(tmp_path / "out")] if command == "convert" else []),
    ]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "would run code from the file (posix.system); nothing of it ran" in message
    assert len(message.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "evil.pth"]


def test_a_pickled_model_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    assert main(["inspect", str(tmp_path / "model.pt")]) == 2
    assert "torch.save(model.state_dict(), …)" in capsys.readouterr().err


WRONG = [
    (["convert", "absent.pt", "x"], "no checkpoint at absent.pt"),
    (["convert", "12.pt", "x", "--layout=torchvision"], "is a checkpoint of this project"),
    (["convert", "12.pt", "x.pt", "--to=jax"], "x.pt does not look like a jax checkpoint: give it no suffix"),
    (["convert", "12.pt", "x", "--to=torch"], "x does not look like a torch checkpoint: give it .pt"),
    (["convert", "12.pt", "x.msgpack"], "can't write .msgpack files; DST ends in .pt, .pth, .th, "),
    (["convert", "12.pt", "x.PTH"], "can't write .PTH files"),
    (["convert", "12.pt", "x.bin", "--to=jax"], "can't write .bin files"),
    (["convert", "12.pt", "x.pth.tar", "--to=torch"], "can't write .tar files"),
    (["convert", "12.pt", "x", "--to=keras"], "unknown form (--to) 'keras'"),
    (["convert", "12.pt", "x.pt", "--to=torch:timm"], "unknown layout 'timm'"),
    (["convert", "12.pt", "x", "--to=jax:torchvision"], "a JAX checkpoint has no layout torchvision"),
    (["convert", "12.pt", "x.pt", "--to=torch:kuangliu"], "kuangliu/pytorch-cifar has no resnet20"),
    (["convert", "12.pt", "x", "--class-names=a,b"], "2 class names, but the network has 10 classes"),
    (["convert", "12.pt", "x", "--mean=1,2"], "--mean takes three numbers"),
    (["convert", "12.pt", "x", "--image-size=0"], "image_size must be a whole number"),
    (["convert", "12.pt", "x", "--std=1,0,1"], "std must be three positive numbers"),
    (["convert", "12.pt", "x", "--mean=nan,0,0"], "mean must be three finite numbers"),
    (["convert", "12.pt", "x", "--weights=net"], "leave out --weights"),
    (["convert", "12.pt", "x" * 300], "File name too long"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_input_gets_one_line(
    arguments: list[str], message: str, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.chdir(source.parent)
    before = tree(source.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert tree(source.parent) == before


SUFFIX = st.from_regex(r"\.(?=..)[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*", fullmatch=True)


@given(
    suffix=st.one_of(SUFFIX, st.sampled_from([".msgpack", ".bin", ".ckpt", ".npz", ".PT", ".Safetensors"]))
)
def test_a_suffix_that_stands_for_no_form_is_refused(suffix: str):
    destination = Path(f"model{suffix}")
    if suffix in SUFFIXES:
        check_suffix(destination)
    else:
        with pytest.raises(UserError) as error:
            check_suffix(destination)
        assert str(error.value) == (
            f"{destination}: can't write {suffix} files; DST ends in .pt, .pth, .th, .safetensors, or has no "
            "suffix to become a JAX folder"
        )


@pytest.mark.parametrize("name", ["12", "v.1", "lr0.05", "r18_v1.0.2", "run.b", ".hidden", "model.pt"])
def test_a_number_or_letter_behind_a_dot_is_no_suffix(name: str):
    check_suffix(Path(name))


def test_a_workdir_has_no_suffix_of_a_file_either(source: Path, tmp_path: Path, capsys: Any):
    (tmp_path / "run" / "checkpoints" / "latest").mkdir(parents=True)
    shutil.copyfile(source, tmp_path / "run" / "checkpoints" / "latest" / "12.pt")
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "new.msgpack"), "--no-check"]) == 2
    assert "can't write .msgpack files" in capsys.readouterr().err
    assert not (tmp_path / "new.msgpack").exists()


def test_a_jax_checkpoint_has_no_other_layout(source: Path, tmp_path: Path, capsys: Any):
    assert main(["convert", str(source), str(tmp_path / "12"), "--no-check"]) == 0
    assert main(["convert", str(tmp_path / "12"), str(tmp_path / "x.pt"), "--layout=torchvision"]) == 2
    assert "is a checkpoint of this project, not one in the layout" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_gets_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "a").mkdir()
    assert main(["inspect", str(tmp_path)]) == 2
    error = capfd.readouterr().err
    assert "is no checkpoint; a run" in error
    assert len(error.splitlines()) == 1


def test_a_link_is_replaced_and_names_with_dots_are_not_cut(source: Path, tmp_path: Path):
    (tmp_path / ".v.old").mkdir()
    (tmp_path / ".v.old" / "thesis.tex").write_text("years of work")
    for _ in range(2):
        assert main(["convert", str(source), str(tmp_path / "v.1"), "--no-check", "--force"]) == 0
    (tmp_path / "link").symlink_to("v.1")
    assert main(["convert", str(source), str(tmp_path / "link"), "--no-check", "--force"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [".v.old", "12.pt", "link", "v.1"]


def test_the_home_folder_is_found(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["convert", "~/12.pt", "~/12", "--no-check"]) == 0
    assert read(tmp_path / "12").step == 12


def test_a_training_scripts_flags_and_torchscript(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """timm saves argparse's Namespace, which is opened; TorchScript is a program, which is not."""
    tensors = torchvision.models.resnet18().state_dict()
    content = {"state_dict": tensors, "state_dict_ema": tensors, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "timm.pth.tar")
    assert main(["inspect", str(tmp_path / "timm.pth.tar"), "--weights=state_dict_ema"]) == 0
    assert "wrapper 'state_dict_ema'" in capsys.readouterr().out
    torch.jit.trace(torch.nn.ReLU(), torch.ones(1)).save(str(tmp_path / "program.pt"))
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "program.pt")]) == 2
    error = capsys.readouterr().err
    assert "would run code from the file (TorchScript)" in error
    assert len(error.splitlines()) == 1


def test_our_own_file_has_checksums_wherever_it_came_from(tmp_path: Path, capsys: Any):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "theirs.pt")
    for command in (["theirs.pt", "jax", "--layout=torchvision"], ["jax", "ours.pt"]):
        paths = [str(tmp_path / name) for name in command[:2]]
        assert main(["convert", *paths, *command[2:], "--no-check"]) == 0
    for name, text in (("theirs.pt", "the CRC-32 it was saved with"), ("ours.pt", "have the SHA-256")):
        assert main(["inspect", str(tmp_path / name)]) == 0
        assert text in capsys.readouterr().out


def test_exporting_to_another_function_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = save(tmp_path / "r18.pt", make_checkpoint(describe("resnet18", "cifar")), "torch")
    for layout in ("torchvision", "huyvnphan"):
        assert main(["convert", str(source), str(tmp_path / "x.pt"), f"--to=torch:{layout}"]) == 2
        assert "computes another function from these weights" in capsys.readouterr().err
    assert main(["convert", str(source), str(tmp_path / "x.pt"), "--to=torch:edadaltocg"]) == 0


def test_an_exported_file_loads_into_torchvision(tmp_path: Path):
    """The whole way: torchvision's file, Flax, and a file that torchvision's own network loads strictly."""
    torch.manual_seed(0)
    first = disturb(torchvision.models.resnet18()).state_dict()
    torch.save(first, tmp_path / "tv.pth")
    assert main(["convert", str(tmp_path / "tv.pth"), str(tmp_path / "jax"), "--image-size=64"]) == 0
    assert main(["convert", str(tmp_path / "jax"), str(tmp_path / "2.pth"), "--to=torch:torchvision"]) == 0
    model = torchvision.models.resnet18()
    model.load_state_dict(torch.load(tmp_path / "2.pth", weights_only=True))
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items())


def test_facts_that_a_file_lacks_can_be_given(tmp_path: Path):
    source = save(tmp_path / "r18.pt", make_checkpoint(describe("resnet18", classes=3)), "torch")
    bare = torch.load(source, weights_only=True)["model"]
    torch.save(bare, tmp_path / "theirs.pth")
    command = ["convert", str(tmp_path / "theirs.pth"), str(tmp_path / "out"), "--no-check"]
    command += ["--class-names=a,b,c", "--mean=.1,.2,.3", "--std=.4,.5,.6", "--dataset=mine"]
    assert main(command) == 0
    description, _ = flax_resnet.load(str(tmp_path / "out"))
    assert description.class_names == ("a", "b", "c")
    assert (description.mean, description.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert description.dataset == "mine"


def test_both_engines_say_how_to_convert_the_others_checkpoint(source: Path, tmp_path: Path):
    assert main(["convert", str(source), str(tmp_path / "12"), "--no-check"]) == 0
    for engine, path in ((flax_resnet, source), (torch_ref, tmp_path / "12")):
        with pytest.raises(UserError, match=r"python -m parity convert"):
            engine.load(str(path))


needs_checkpoint = pytest.mark.skipif(
    "PARITY_CHECKPOINTS" not in os.environ, reason="PARITY_CHECKPOINTS is not set"
)


@needs_checkpoint
@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR is not set")
def test_a_published_checkpoint_has_its_published_error(tmp_path: Path):
    """akamaster/pytorch_resnet_cifar10 reports 8.27 % test error for ResNet20."""
    published = Path(os.environ["PARITY_CHECKPOINTS"]) / "akamaster_resnet20.th"
    for destination in ("jax", "torch.pt"):
        assert main(["convert", str(published), str(tmp_path / destination)]) == 0
    cifar = datasets.load("cifar10", os.environ["TFDS_DATA_DIR"], download=False)
    for engine, name in ((flax_resnet, "jax"), (torch_ref, "torch.pt")):
        description, predictor = engine.load(str(tmp_path / name))
        assert description.class_names == cifar.class_names
        evaluation = metrics.evaluate(predictor.logits(cifar.test_images), cifar.test_labels)
        assert evaluation.count - evaluation.correct == 827


@needs_checkpoint
def test_a_published_checkpoint_comes_back_as_it_was(tmp_path: Path):
    published = Path(os.environ["PARITY_CHECKPOINTS"]) / "akamaster_resnet20.th"
    assert main(["convert", str(published), str(tmp_path / "jax"), "--no-check"]) == 0
    back = [
        "convert",
        str(tmp_path / "jax"),
        str(tmp_path / "again.th"),
        "--to=torch:akamaster",
        "--no-check",
    ]
    assert main(back) == 0
    a, b = (
        torch.load(path, map_location="cpu", weights_only=True) for path in (published, tmp_path / "again.th")
    )
    assert a["best_prec1"] == b["best_prec1"]
    assert a.keys() == b.keys()
    assert list(a["state_dict"]) == list(b["state_dict"])
    for name, tensor in a["state_dict"].items():
        np.testing.assert_array_equal(tensor.numpy(), b["state_dict"][name].numpy())
    shutil.rmtree(tmp_path / "jax")


def test_the_proof_computes_in_float64_and_leaves_the_callers_dtypes(source: Path, tmp_path: Path):
    with jax.enable_x64(False):
        parity.convert.convert.convert(source, tmp_path / "12")
        assert jnp.ones(1, float).dtype == jnp.float32
    assert (tmp_path / "12").is_dir()
