"""config.precision=auto: which precision it becomes, and that a run keeps it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs import r18
from recipe import commands
from recipe.data import Dataset
from recipe.system.errors import UserError
from recipe.training import checkpoints, precision, room
from recipe.training.description import Inference, RunDescription, describe_run


class Engine:
    """An engine whose steps take the seconds that it is given, by a clock of its own."""

    def __init__(self, f32: list[float], bf16: list[float], *, on_cpu: bool = True):
        self.now = 0.0
        self.seconds: dict[str, Iterator[float]] = {"f32": cycle(f32), "bf16": cycle(bf16)}
        self.steps: list[str] = []
        self.sizes: set[int | None] = set()
        self.on_cpu = on_cpu

    def clock(self) -> float:
        return self.now

    def layer_rows(self, model: Any) -> list[Any]:
        return []

    def Trainer(self, run: RunDescription, data: Dataset) -> Any:
        assert len(data.train_images) == len(data.train_labels) == run.batch_size

        def start_epoch(plan: Any, size: int | None) -> None:
            assert sorted(plan.index.ravel()) == list(range(run.batch_size))
            self.sizes.add(size)

        def train_steps(at_most: int) -> None:
            assert at_most == 1
            first = run.precision not in self.steps
            self.steps.append(run.precision)
            self.now += 60.0 if first else next(self.seconds[run.precision])  # compiling

        return SimpleNamespace(
            on_cpu=self.on_cpu, start_epoch=start_epoch, train_steps=train_steps, sums=lambda: None
        )


def settled(config: Any, engine: Any, data: Dataset, folder: Path) -> tuple[str, str]:
    config.precision = "auto"
    clock = {"clock": engine.clock} if isinstance(engine, Engine) else {}
    line = precision.settle(config, engine, data, folder, **clock)
    return config.precision, line


@pytest.mark.parametrize(
    ("f32", "bf16", "best"),
    [
        ([0.02], [0.03], "f32"),
        ([0.03], [0.02], "bf16"),
        ([0.0105], [0.01], "bf16"),
        ([0.01, 9.0, 0.01], [0.02], "f32"),  # one step that something else delayed
        ([1.16], [1.6], "f32"),
        ([30.0], [31.0], "f32"),
    ],
)
def test_the_faster_one_is_taken(
    config: Any, data: Dataset, tmp_path: Path, f32: list[float], bf16: list[float], best: str
):
    engine = Engine(f32, bf16)
    found, line = settled(config, engine, data, tmp_path / "run")
    assert found == best
    assert line.startswith(f"config.precision=auto takes {best}: ")
    speeds = {
        name: f"{config.batch_size / min(seconds):.0f}" for name, seconds in (("f32", f32), ("bf16", bf16))
    }
    other = "f32" if best == "bf16" else "bf16"
    assert line.endswith(f": {speeds[best]} img/s in a trial, {other} {speeds[other]}")
    assert not (tmp_path / "run").exists()
    assert engine.steps.count("f32") == engine.steps.count("bf16")


def test_a_clear_difference_or_slow_steps_need_few_turns_and_a_small_one_more(
    config: Any, data: Dataset, tmp_path: Path
):
    clear, close, slow = Engine([0.01], [0.02]), Engine([0.01], [0.0101]), Engine([30.0], [31.0])
    for engine in (clear, close, slow):
        assert settled(config, engine, data, tmp_path)[0] == "f32"
    assert len(slow.steps) == 2 * (1 + 1)
    assert len(clear.steps) == 2 * (1 + 3)
    assert len(close.steps) == 2 * (1 + 25)


def test_the_trial_is_at_the_size_that_takes_most_of_the_time(config: Any, data: Dataset, tmp_path: Path):
    engine = Engine([0.01], [0.02])
    config.epochs, config.resize.sizes, config.resize.starts = 10, (16, 24), (0.0, 0.5)
    settled(config, engine, data, tmp_path)
    assert engine.sizes == {24}


def test_an_accelerator_computes_in_bf16_without_a_trial(config: Any, data: Dataset, tmp_path: Path):
    engine = Engine([0.01], [0.02], on_cpu=False)
    assert settled(config, engine, data, tmp_path)[0] == "bf16"
    assert engine.steps == []


def test_bf16_is_taken_where_f32_does_not_fit_into_memory(
    config: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def check(run: RunDescription, rows: Any) -> None:
        raise UserError("too large")

    monkeypatch.setattr(room, "check", check)
    found, line = settled(config, Engine([0.01], [0.02]), data, tmp_path)
    assert found == "bf16"
    assert "memory" in line


def test_what_is_set_is_not_tried(config: Any, data: Dataset, tmp_path: Path):
    config.precision = "f64"
    assert precision.settle(config, Engine([1.0], [1.0]), data, tmp_path) == ""
    assert config.precision == "f64"


def test_a_real_run_records_the_choice_and_keeps_it(
    engine: Any, config: Any, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config.epochs = 1
    monkeypatch.setattr(precision, "MOST_TURNS", 2)
    config.engine = {"flax_resnet": "jax", "torch_ref": "torch"}[engine.__name__]
    chosen, line = settled(config, engine, data, tmp_path)
    assert re.fullmatch(rf"config.precision=auto takes {chosen}: \d+ img/s in a trial, (f32|bf16) \d+", line)
    assert commands.train(engine, describe_run(config, data, tmp_path), data, "", line) == 0
    assert line in (tmp_path / "log.txt").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["precision"] == chosen

    again, said = settled(config, engine, data, tmp_path)
    assert (again, said) == (chosen, "")
    description, predictor = engine.load(str(tmp_path), Inference("auto", 8))
    assert predictor.precision == chosen
    assert description.num_classes == 3


@pytest.mark.parametrize("recorded", ["f32", "bf16", "f64"])
def test_a_run_goes_on_in_the_recorded_precision(config: Any, data: Dataset, tmp_path: Path, recorded: str):
    (tmp_path / "config.json").write_text(json.dumps({"precision": recorded}))
    engine = Engine([0.01], [0.02])
    assert settled(config, engine, data, tmp_path) == (recorded, "")
    assert engine.steps == []


@pytest.mark.parametrize("recorded", ["auto", "f16", 1, None, ["f32"], "\x1b[31m"])
def test_a_record_without_a_precision_is_damaged(config: Any, data: Dataset, tmp_path: Path, recorded: Any):
    (tmp_path / "config.json").write_text(json.dumps({"precision": recorded}))
    with pytest.raises(UserError, match=r"config\.json is damaged: it has the precision") as error:
        settled(config, Engine([0.01], [0.02]), data, tmp_path)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize(
    ("record", "expected"),
    [({"config": {"precision": "bf16"}}, "bf16"), ({}, "f32"), ({"config": {"precision": "x"}}, "f32")],
)
def test_a_network_runs_in_the_precision_of_its_run(record: dict[str, Any], expected: str):
    assert checkpoints.settled(Inference("auto"), record).precision == expected
    assert checkpoints.settled(Inference("f64"), record).precision == "f64"


def test_the_recipes_for_cpus_leave_it_open():
    assert [name for name in r18.VARIANTS if r18.get_config(name).precision == "auto"] == ["cpu", "cpu_long"]
