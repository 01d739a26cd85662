"""A run that changes engines on its way ends where a run in one engine ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flax_resnet
import flax_resnet.checkpoint
import torch_ref
from parity.__main__ import main
from parity.convert import convert as convert_module
from parity.convert.files import Checkpoint, read
from recipe.data import Dataset
from recipe.system.errors import UserError
from recipe.training import checkpoints
from recipe.training.log import read_metrics
from recipe.training.loop import Interrupted
from tests.engines.test_trainer import interrupt_after, make_run, without_times

ENGINES = {"jax": flax_resnet, "torch": torch_ref}
SUFFIX = {"jax": "", "torch": ".pt"}


@pytest.fixture
def recipe(config: Any) -> Any:
    """30 steps of 32 images in float64, with augmentation, lr drops at steps 15 and 22 (an epoch has 10)."""
    config.precision = "f64"
    config.model.arch = "resnet18"
    config.model.width = 16
    config.batch_size = 32
    config.epochs = 3
    config.optimizer.lr = 0.1
    return config


@pytest.fixture
def images() -> Dataset:
    """330 training images, whose remainder of 10 is dropped."""
    rng = np.random.default_rng(5)
    arrays = [
        (rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, n).astype(np.int32))
        for n in (330, 20)
    ]
    names = tuple(map(str, range(10)))
    return Dataset("digits", "noise", "a generator", *arrays[0], *arrays[1], names, (0.5,) * 3, (0.25,) * 3)


def newest(workdir: Path, engine: str) -> Path:
    path = checkpoints.newest(workdir / "checkpoints" / "latest", SUFFIX[engine])
    assert path is not None
    return path


def train(recipe: Any, images: Dataset, workdir: Path, *legs: tuple[str, int]) -> Checkpoint:
    """Train in one engine until a step, convert in place, go on in the next; the last leg ends the run."""
    for number, (engine, end) in enumerate(legs):
        if number:
            assert main(["convert", str(workdir), str(workdir), "--no-check"]) == 0
        run = make_run(ENGINES[engine], recipe, images, workdir)
        if end < 30:
            interrupt_after(run, end)
            with pytest.raises(Interrupted):
                run.train()
        else:
            run.train()
    return read(newest(workdir, legs[-1][0]))


def errors(a: Checkpoint, b: Checkpoint) -> dict[str, float]:
    """‖a−b‖∞/‖a‖∞ of every tensor; 0/0 is 0."""
    found = {}
    for group in ("model", "momentum"):
        ours, theirs = getattr(a, group), getattr(b, group)
        assert ours.keys() == theirs.keys()
        for name in ours:
            difference, size = np.abs(ours[name] - theirs[name]).max(), np.abs(ours[name]).max()
            found[f"{group} {name}"] = float(difference / size) if difference else 0.0
    return found


def test_switching_engines_changes_nothing(recipe: Any, images: Dataset, tmp_path: Path):
    whole = {engine: train(recipe, images, tmp_path / engine, (engine, 30)) for engine in ENGINES}
    assert whole["jax"].step == 30
    routes = {
        "start": [("torch", 1), ("jax", 30)],
        "drop": [("torch", 15), ("jax", 30)],
        "often": [("jax", 10), ("torch", 14), ("jax", 20), ("torch", 29), ("jax", 30)],
    }
    ends = {name: train(recipe, images, tmp_path / name, *legs) for name, legs in routes.items()}
    for reference in whole.values():
        for name, end in [*ends.items(), *whole.items()]:
            worst = max(errors(reference, end).items(), key=lambda item: item[1])
            assert worst[1] <= 1e-9, (name, worst)
            assert end.record["progress"]["step"] == 30
    metrics = [without_times(read_metrics(tmp_path / name)) for name in [*ENGINES, *routes]]
    for records in metrics:
        assert [record["epoch"] for record in records] == [1, 2, 3]
        assert [r["train_acc"] for r in records] == [r["train_acc"] for r in metrics[0]]
        np.testing.assert_allclose(
            [r["train_loss"] for r in records], [r["train_loss"] for r in metrics[0]], rtol=1e-9
        )


def test_before_the_first_step_there_is_nothing_to_lose(config: Any, data: Dataset, tmp_path: Path):
    """PyTorch has no momentum buffers yet; converted to JAX and back, it still has none."""
    run = make_run(torch_ref, config, data, tmp_path)
    run._trainer.save("latest")
    run._trainer.wait_for_checkpoints()
    assert main(["convert", str(tmp_path), str(tmp_path), "--no-check"]) == 0
    latest = tmp_path / "checkpoints" / "latest"
    assert main(["convert", str(latest / "0"), str(tmp_path / "0.pt"), "--no-check"]) == 0
    first, again = read(latest / "0.pt"), read(tmp_path / "0.pt")
    assert first.momentum == again.momentum == {}
    assert first.record == again.record
    make_run(flax_resnet, config, data, tmp_path).train()


def test_a_run_moves_into_another_workdir(config: Any, data: Dataset, tmp_path: Path):
    run = make_run(flax_resnet, config, data, tmp_path / "a")
    (tmp_path / "a" / "config.json").write_text(config.to_json())
    interrupt_after(run, 6)
    with pytest.raises(Interrupted):
        run.train()
    assert main(["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--no-check"]) == 0
    assert newest(tmp_path / "b", "torch").name == "6.pt"
    assert json.loads((tmp_path / "b" / "config.json").read_text())["batch_size"] == 16
    make_run(torch_ref, config, data, tmp_path / "b").train()
    assert [record["epoch"] for record in read_metrics(tmp_path / "b")] == [1, 2]


def test_the_newest_checkpoint_counts_whoever_wrote_it(config: Any, data: Dataset, tmp_path: Path):
    """An engine that went back to its own older checkpoint would silently undo the other's work."""
    run = make_run(flax_resnet, config, data, tmp_path)
    interrupt_after(run, 3)
    with pytest.raises(Interrupted):
        run.train()
    assert main(["convert", str(tmp_path), str(tmp_path), "--no-check"]) == 0
    run = make_run(torch_ref, config, data, tmp_path)
    interrupt_after(run, 6)
    with pytest.raises(Interrupted):
        run.train()
    with pytest.raises(UserError, match=r"6\.pt is a file.*python -m parity convert"):
        make_run(flax_resnet, config, data, tmp_path)


def test_weights_alone_are_no_run_to_go_on_with(config: Any, data: Dataset, tmp_path: Path):
    run = make_run(torch_ref, config, data, tmp_path)
    run._trainer.save("latest")
    run._trainer.wait_for_checkpoints()
    weights = tmp_path / "weights.safetensors"
    assert main(["convert", str(tmp_path / "checkpoints/latest/0.pt"), str(weights), "--no-check"]) == 0
    assert main(["convert", str(weights), str(tmp_path / "b/checkpoints/latest/0"), "--no-check"]) == 0
    with pytest.raises(UserError, match="holds weights only"):
        make_run(flax_resnet, config, data, tmp_path / "b")


def test_two_runs_are_not_mixed(config: Any, data: Dataset, tmp_path: Path, capsys: Any):
    """A workdir takes no checkpoints of another run, and flags for one checkpoint are not ignored."""
    for name in ("a", "b"):
        run = make_run(torch_ref, config, data, tmp_path / name)
        run._trainer.save("latest")
        run._trainer.wait_for_checkpoints()
    for arguments, message in (
        (["a", "b"], "holds a run already"),
        (["a", "b", "--force"], "holds a run already"),
        (["a", "new.pt"], "DST must be one as well"),
        (["a", "new", "--to=jax"], "--to is for one checkpoint"),
        (["a", "new", "--mean=0,0,0"], "--mean is for one checkpoint"),
    ):
        paths = [str(tmp_path / name) for name in arguments[:2]]
        assert main(["convert", *paths, *arguments[2:], "--no-check"]) == 2
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert main(["inspect", str(tmp_path / "a")]) == 0
    assert str(tmp_path / "a/checkpoints/latest/0.pt") in capsys.readouterr().out


def test_a_run_that_saves_nothing_leaves_nothing(tmp_path: Path):
    """orbax's manager starts a thread, which fails aloud when the program ends with an error before it."""
    writer = flax_resnet.checkpoint.CheckpointWriter(tmp_path, {})
    writer.wait()
    assert not list(tmp_path.iterdir())


def test_a_move_that_was_killed_goes_on(
    config: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = make_run(torch_ref, config, data, tmp_path / "a")
    interrupt_after(run, 5)  # behind the first epoch, which is the best
    with pytest.raises(Interrupted):
        run.train()
    (tmp_path / "a" / "config.json").write_text("{}")
    command = ["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--no-check"]
    at = tmp_path / "b" / "checkpoints"
    done = convert_module.convert

    def killed(source: Path, destination: Path, **options: Any) -> None:
        if (at / "best").exists():
            raise KeyboardInterrupt
        done(source, destination, **options)

    with monkeypatch.context() as patch:
        patch.setattr(convert_module, "convert", killed)
        assert main(command) == 130
    assert not (at / "latest").exists()
    assert main(command) == 0
    assert [path.name for path in (at / "latest").iterdir()] == ["5"]
    (tmp_path / "b" / "metrics.jsonl").write_text("")  # another run's
    assert main(command) == 2
