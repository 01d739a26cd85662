"""What can't be trained is refused before training, in one line that says what to choose instead."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from configs import r18
from recipe.architectures import ModelDescription
from recipe.data import Dataset
from recipe.output.layer_table import LayerRow
from recipe.system import memory
from recipe.system.errors import UserError
from recipe.training import room, settings
from recipe.training.description import RunDescription, describe_run

EXTREMES: list[tuple[str, Any]] = [
    ("optimizer.lr", 1e9), ("optimizer.lr", float("nan")), ("optimizer.lr", float("inf")),
    ("optimizer.weight_decay", 1e300), ("optimizer.weight_decay", -1e-4), ("steps_per_dispatch", 10**6),
    ("model.width", 10**9), ("epochs", 10**9), ("label_smoothing", float("nan")), ("seed", -1),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), EXTREMES)
def test_a_value_out_of_range_names_the_field_and_the_range(field: str, value: Any):
    config = r18.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=rf"^config\.{field} must be between [^\n]*$"):
        settings.check(config)


@pytest.mark.parametrize("starts", [(0.0, float("nan")), (0.0, "a"), ("0", 0.5), (0.0, 1e300), (0.0, -1.0)])
def test_starts_are_fractions(starts: tuple[Any, ...]):
    config = r18.get_config()
    config.resize.sizes, config.resize.starts = (16, 32), starts
    with pytest.raises(UserError, match=r"^config\.resize\.starts must rise from 0 to below 1, not [^\n]*$"):
        settings.check(config)


def test_every_variant_is_in_range():
    for variant in ("", *r18.VARIANTS):
        settings.check(r18.get_config(variant))


@pytest.mark.parametrize(
    ("arch", "stem", "pixels", "expected"),
    [
        ("resnet18", "cifar", 32, 4), ("resnet18", "cifar", 8, 1), ("resnet18", "cifar_pool", 32, 2),
        ("resnet18", "imagenet", 224, 7), ("resnet50", "imagenet", 32, 1), ("resnet20", "cifar", 32, 8),
        ("resnet20", "cifar", 9, 3),
    ],
)  # fmt: skip
def test_the_smallest_map(arch: str, stem: str, pixels: int, expected: int):
    network = ModelDescription(arch, stem, 16, ("a", "b"), (0.5,) * 3, (0.5,) * 3, 32, "none")
    assert network.smallest_map(pixels) == expected


def test_batch_norm_over_one_value_is_refused(config: Any, data: Dataset):
    config.model.arch, config.model.stem = "resnet18", "imagenet"
    config.batch_size = 2
    describe_run(config, data, Path())
    config.batch_size = 1
    with pytest.raises(UserError, match=r"batch_size=1 and images of 32 pixels.*choose a batch of 2"):
        describe_run(config, data, Path())
    config.model.stem = "cifar"
    describe_run(config, data, Path())
    config.resize.sizes, config.resize.starts = (32, 8), (0.0, 0.5)
    with pytest.raises(UserError, match=r"batch_size=1 and images of 8 pixels"):
        describe_run(config, data, Path())


def test_steps_without_end_are_refused(config: Any, data: Dataset):
    config.epochs = 10**6
    config.batch_size = 4
    with pytest.raises(UserError, match="makes 18,000,000 steps, of which a run may have 10,000,000"):
        describe_run(config, data, Path())


ROWS = [LayerRow("Conv2d", (8, 32, 32), 1_000), LayerRow("Linear", (10,), 500)]


@pytest.fixture
def run(config: Any, data: Dataset) -> RunDescription:
    """f32, batches of 16 images."""
    return describe_run(config, data, Path())


def needed(run: RunDescription, monkeypatch: pytest.MonkeyPatch) -> int:
    """The least memory with which the run is not refused."""
    low, high = 0, 10**12
    while high - low > 1:
        middle = (low + high) // 2
        monkeypatch.setattr(room, "most_memory", lambda middle=middle: float(middle))
        try:
            room.check(run, ROWS)
        except UserError:
            low = middle
        else:
            high = middle
    return high


def test_what_a_run_needs_at_least(run: RunDescription, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "gpu_expected", lambda: False)
    values = 8 * 32 * 32 + 10
    assert needed(run, monkeypatch) == 3 * 1500 * 4 + values * 16 * 4 / 2
    assert needed(dataclasses.replace(run, precision="bf16"), monkeypatch) == 3 * 1500 * 4 + values * 16
    assert needed(dataclasses.replace(run, batch_size=32), monkeypatch) == 3 * 1500 * 4 + values * 64
    monkeypatch.setattr(room, "gpu_expected", lambda: True)
    assert needed(run, monkeypatch) == 1500 * 4


def test_the_message_names_what_to_make_smaller(run: RunDescription, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room, "gpu_expected", lambda: False)
    monkeypatch.setattr(room, "most_memory", lambda: 16e9)
    wide = [LayerRow("Conv2d", (1, 1, 1), 45_000_000_000)]
    with pytest.raises(UserError, match=r"needs more than 540 GB .* are 16 GB; .* config\.model\.width$"):
        room.check(run, wide)
    with pytest.raises(UserError, match=r"with batches of 10000000 .*; choose a smaller config\.batch_size$"):
        room.check(dataclasses.replace(run, batch_size=10**7), ROWS)


def test_a_container_s_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "LIMITS", (tmp_path / "memory.max", tmp_path / "absent"))
    machine = memory.most_memory()
    assert 10**8 < machine < 10**15
    for text, expected in (
        ("max\n", machine),
        ("12345678\n", 12345678.0),
        ("9223372036854771712\n", machine),
    ):
        (tmp_path / "memory.max").write_text(text)
        assert memory.most_memory() == expected
