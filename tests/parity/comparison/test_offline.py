"""Three steps with one framework each give the report of the comparison in one environment."""

from __future__ import annotations

import fractions
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
import torch

import parity
from parity.__main__ import main
from parity.comparison import pair_file
from parity.comparison.api import compare_halves
from parity.comparison.inputs import Arguments
from parity.comparison.json import render
from parity.comparison.offline import codec, parts
from parity.comparison.offline.folder import DescribedTorch
from parity.comparison.offline.judging import Judging
from parity.comparison.recording import Passing, Recording, Slot
from recipe.system.errors import UserError
from tests.parity.comparison import small

ROOT = Path(__file__).parents[3]
PAIR = Path(__file__).parent / "offline"
OURS = ("flax_resnet", "torch_ref", "ml_collections", "PIL", "matplotlib", "sklearn")  # needed by the recipe
FRAMEWORKS = {
    "torch": ("torch", "torchvision", *OURS),
    "jax": ("jax", "jaxlib", "flax", "optax", "orbax", "ml_dtypes", "absl", *OURS),
}


def run(without: str, *arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """`python -m parity …` where one framework can't be imported; in `folder`, with files in its place."""
    for name in FRAMEWORKS[without]:
        (folder / without).mkdir(exist_ok=True)
        (folder / without / f"{name}.py").write_text(f'raise ImportError("{name} is not installed here")\n')
    path = os.pathsep.join([str(folder / without), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "parity", *map(str, arguments)], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run."""
    return tmp_path_factory.mktemp("stubs")


@pytest.fixture(scope="module")
def described(stubs: Path) -> Path:
    """A description that was made without JAX."""
    done = run("jax", "describe", PAIR / "torch_net.py", "--out", stubs / "described", folder=stubs)
    assert done.returncode == 0, done.stderr
    assert "python -m parity record FILE.py" in done.stdout
    return stubs / "described"


@pytest.fixture(scope="module")
def recorded(described: Path, stubs: Path) -> dict[str, Path]:
    """The same with runs that were made without PyTorch: right ones, and mistaken ones."""
    folders = {}
    for function in ("flax_half", "mistaken"):
        folders[function] = Path(shutil.copytree(described, stubs / function))
        file = f"{PAIR / 'flax_net.py'}:{function}"
        done = run("torch", "record", file, folders[function], folder=stubs)
        assert done.returncode == 0, done.stderr
    return folders


def content(text: str) -> dict[str, Any]:
    """All numbers of a report; times and machines aside."""
    return {k: v for k, v in json.loads(text).items() if k not in ("seconds", "environment")}


@pytest.mark.parametrize("function", ["flax_half", "mistaken"])
def test_three_steps_give_the_report_of_one(function: str, recorded: dict[str, Path], stubs: Path):
    done = run(
        "jax", "compare", PAIR / "torch_net.py", "--recorded", recorded[function], "--json", "report.json",
        "--html", "report.html", folder=stubs,
    )  # fmt: skip
    live = compare_halves(
        pair_file.load_torch(f"{PAIR / 'torch_net.py'}"),
        pair_file.load_flax(f"{PAIR / 'flax_net.py'}:{function}"),
    )
    report = content((stubs / "report.json").read_text())
    assert report == content(render(live)), done.stdout + done.stderr
    assert {check["level"] for check in report["checks"]} == {1, 2, 3, 4, 5}
    right = function == "flax_half"
    assert done.returncode == (0 if right else 1)
    if not right:
        first = report["differences"][0]
        assert (first["family"], first["places"][0]["torch"]) == ("batch norm", "norm")
        assert "eps is 0.001" in first["cause"]
    assert "jax 0." in done.stdout
    assert (stubs / "report.html").stat().st_size > 10_000


def test_the_mapping_of_a_recorded_network_is_printed(recorded: dict[str, Path], stubs: Path):
    done = run(
        "jax", "compare", PAIR / "torch_net.py", "--recorded", recorded["flax_half"], "--map", folder=stubs
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("weights = {\n    'conv.bias': ('conv.bias'")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("other_seed", "was described with seed: 0, now it is 1"),
        ("other_inputs", "the inputs are not what they were"),
        ("other_weights", "weights are not what they were"),
        ("other_code", "its code changed, so describe it again"),
        ("other_precision", "was described for precisions f64, f32, not for bf16"),
        ("without_optimizer", "was described with an optimizer: True, now it is False"),
    ],
)
def test_a_contradiction_is_one_clear_line(function: str, words: str, recorded: dict[str, Path]):
    half = pair_file.load_torch(f"{PAIR / 'torch_net.py'}:{function}")

    def judge() -> None:
        given = Judging(half, recorded["flax_half"], (1, 2, 3, 4, 5))
        given.torch.mode(given.torch.weights(), training=False)

    with pytest.raises(UserError) as refused:
        judge()
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def flipped(path: Path) -> None:
    """Change the last byte."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def changed(path: Path, change: Callable[[dict[str, Any]], Any], *, sealed: bool = True) -> None:
    """Change what an index says, as somebody may who knows how it is sealed."""
    content = json.loads(path.read_text())
    del content[parts.OWN]
    change(content)
    content[parts.OWN] = parts._digest(content) if sealed else "0"
    path.write_text(json.dumps(content))


def rewritten(folder: Path, tree: Any) -> None:
    """Let the file of the network hold another tree, with right checksums."""
    safetensors.numpy.save_file(
        {"0": np.zeros(3)}, folder / "network.safetensors", {"tree": json.dumps(tree)}
    )
    checksum = parts._checksum(folder / "network.safetensors")
    changed(folder / "index.json", lambda index: index["files"].update({"network.safetensors": checksum}))


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(levels="all"), lambda index: index.update(levels=[9]),
        lambda index: index.pop("levels"), lambda index: index.update(settings=[]),
        lambda index: index["settings"].update(seed="0"), lambda index: index["settings"].update(seed=True),
        lambda index: index["settings"].update(more=1), lambda index: index["settings"].pop("keep"),
        lambda index: index["settings"].update(precisions=3), lambda index: index.update(refused=None),
        lambda index: index.update(versions=["3"]), lambda index: index.update(tensors={"gain": 3}),
        lambda index: index.update(files=[]), lambda index: index["files"].update({"../torch/x": "0"}),
        lambda index: index["files"].update({"\x1b[2J\n": "0"}), lambda index: index["files"].clear(),
        lambda index: index.update(format=10**400),
    ],
)  # fmt: skip
def test_nonsense_in_a_sealed_index_is_one_line(
    change: Callable[[dict[str, Any]], Any], recorded: dict[str, Path], tmp_path: Path
):
    folder = Path(shutil.copytree(recorded["flax_half"], tmp_path / "folder"))
    changed(folder / "torch" / "index.json", change)
    with pytest.raises(UserError, match=str(folder)) as refused:
        DescribedTorch(folder)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "tree",
    [None, [], {}, "x", 3, {"structure": 3}, {"structure": {"$array": "0"}}, {"$array": "9"},
     json.loads("[" * 200 + "]" * 200)],
)  # fmt: skip
def test_nonsense_in_a_sealed_file_is_one_line(tree: Any, recorded: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(recorded["flax_half"], tmp_path / "folder"))
    rewritten(folder / "torch", tree)
    with pytest.raises(UserError, match=r"network\.safetensors is damaged: copy it again") as refused:
        DescribedTorch(folder)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no description"),
        (lambda folder: shutil.rmtree(folder / "flax"), "holds no runs of a Flax network"),
        (lambda folder: (folder / "torch" / "train.safetensors").unlink(), "train.safetensors is missing"),
        (lambda folder: flipped(folder / "torch" / "eval.safetensors"), "eval.safetensors is damaged"),
        (lambda folder: flipped(folder / "flax" / "eval-free-f32.safetensors"), "is damaged: copy it again"),
        (lambda folder: os.truncate(folder / "torch" / "eval.safetensors", 1 << 42),
         "eval.safetensors is damaged: it has 4,398,046,511,104 bytes, more than this machine's memory"),
        (lambda folder: (folder / "torch" / "index.json").write_text("{"), "index.json is damaged"),
        (lambda folder: changed(folder / "torch" / "index.json", lambda i: i["levels"].pop(), sealed=False),
         "index.json is damaged"),
        (lambda folder: changed(folder / "flax" / "index.json", lambda i: i.pop("versions"), sealed=False),
         "index.json is damaged"),
        (lambda folder: (folder / "torch" / "index.json").write_text("[" * 100_000), "index.json is damaged"),
        (lambda folder: (folder / "torch" / "index.json").write_text('{"format": 0, "files": {}}'),
         "another version"),
        (lambda folder: parity.describe(small.torch_mlp(), small.inputs(), folder), "holds no runs"),
    ],
)  # fmt: skip
def test_a_folder_that_is_not_whole_is_refused(
    damage: Any, words: str, recorded: dict[str, Path], tmp_path: Path
):
    folder = Path(shutil.copytree(recorded["flax_half"], tmp_path / "folder"))
    damage(folder)
    with pytest.raises(UserError) as refused:
        Judging(pair_file.load_torch(f"{PAIR / 'torch_net.py'}"), folder, (1, 2))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_runs_for_another_description_are_refused(recorded: dict[str, Path], tmp_path: Path):
    parity.describe(small.torch_mlp(), small.inputs(), tmp_path / "folder", levels=(1,))
    shutil.copytree(recorded["flax_half"] / "flax", tmp_path / "folder" / "flax")
    with pytest.raises(UserError, match="are for another description"):
        parity.compare(small.torch_mlp(), parity.Recorded(tmp_path / "folder"), levels=(1,))


def test_nothing_is_left_half_written(described: Path, stubs: Path, tmp_path: Path):
    file = PAIR / "torch_net.py"
    done = run("jax", "describe", file, "--out", tmp_path / "new", "--memory", "1K", folder=stubs)
    assert done.returncode == 2
    assert "GiB may be used" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    done = run("jax", "describe", file, "--out", tmp_path, folder=stubs)
    assert done.returncode == 2
    assert "exists and is no description" in done.stderr.splitlines()[-1]
    done = run("torch", "record", f"{PAIR / 'flax_net.py'}:without_optimizer", described, folder=stubs)
    assert done.returncode == 2
    assert done.stderr.endswith("PyTorch is given an optimizer, Flax none: give both or neither\n")
    assert [path.name for path in described.iterdir()] == ["torch"]


def test_in_python_settings_and_inputs_are_those_of_the_description(tmp_path: Path):
    """A tensor that goes nowhere is drawn anew, since a description can't know; the report says so."""
    model = small.torch_mlp()
    model.unused = torch.nn.Parameter(torch.ones(3))
    reports = []
    for keep in ((), ("unused",)):
        folder = tmp_path / "-".join(["folder", *keep])
        settings: dict[str, Any] = {"levels": (1, 2), "precisions": ("f64",), "seed": 5, "keep": keep}
        parity.describe(model, small.inputs(), folder, **settings)
        parity.record(small.FlaxMLP(), folder)
        reports.append(parity.compare(model, parity.Recorded(folder), levels=(1, 2)))
    notes = ["unused: constant in PyTorch" in " ".join(report.notes) for report in reports]
    assert notes == [True, False]
    assert [[d.first.torch for d in report.differences] for report in reports] == [["unused"], ["unused"]]
    with pytest.raises(UserError, match=r"was described for levels 1, 2, not for 1, 2, 3, 4, 5"):
        parity.compare(model, parity.Recorded(folder))


def test_a_mode_that_cannot_be_compared_leaves_the_other(tmp_path: Path):
    def call(model: Any, x: Any, train: bool) -> Any:
        return model(x) + (torch.rand(3) if train else 0)

    settings: dict[str, Any] = {"call": call, "precisions": ("f64",)}
    levels = (1, 2, 3)
    parity.describe(small.torch_mlp(), small.inputs(), tmp_path / "folder", levels=levels, **settings)
    parity.record(small.FlaxMLP(), tmp_path / "folder")
    recorded = parity.Recorded(tmp_path / "folder")
    assert parity.compare(small.torch_mlp(), recorded, levels=(1, 2), **settings).passed
    with pytest.raises(UserError, match="changes from run to run"):
        parity.compare(small.torch_mlp(), recorded, levels=(1, 3), **settings)
    with pytest.raises(UserError, match="changes from run to run"):
        parity.describe(
            small.torch_mlp(), small.inputs(), tmp_path / "other", levels=levels, modes=("train",), **settings
        )
    assert not (tmp_path / "other").exists()


def test_record_looks_for_its_device_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda' (set JAX_PLATFORMS='')")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert main(["record", "nowhere.py", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: JAX has no backend for JAX_PLATFORMS=cuda: Unable to initialize")


def test_what_is_written_is_read_again():
    def there_and_back(hint: Any, value: Any) -> Any:
        arrays: list[np.ndarray] = []

        def put(array: np.ndarray) -> str:
            arrays.append(array)
            return str(len(arrays) - 1)

        text = json.dumps(codec.encode(value, put))
        return codec.decode(hint, json.loads(text), lambda name: arrays[int(name)])

    given = Arguments({"a": [np.arange(3), (1, None)], 2: "word"}, flag=True, x=np.zeros((0, 2), bool))
    assert repr(there_and_back(Arguments, given)) == repr(given)
    with pytest.raises(UserError, match="the inputs hold a Fraction"):
        there_and_back(Arguments, Arguments(fractions.Fraction(1, 2)))
    slot = Slot("array", 0, "in", 1)
    run = Recording(
        {slot: Passing(np.ones(2), None)}, [("array", 0)], {"array": "Linear"}, {"$array": np.array(1.5)}, {},
        {}, [None, np.ones(1)], float("nan"),
    )  # fmt: skip
    assert repr(there_and_back(Recording, run)) == repr(run)
