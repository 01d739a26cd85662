"""Damaged files end in one clear line, never in a wrong success and never in a traceback."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flax_resnet.checkpoint
import torch_ref.checkpoint
from parity.__main__ import main
from parity.convert.files import Checkpoint, read
from parity.convert.layouts import LAYOUTS
from recipe.system.errors import UserError
from tests.parity.helpers import describe, make_checkpoint, same, save

FORMS = {"jax": "7", "torch": "7.pt", "safetensors": "7.safetensors"}
FLIPS = 150


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Checkpoint]]:
    """A run's checkpoint in each form, with what is in it."""
    folder = tmp_path_factory.mktemp("original")
    checkpoint = make_checkpoint(describe(), step=7)
    paths = {form: save(folder / name, checkpoint, form) for form, name in FORMS.items()}
    return {form: (path, read(path)) for form, path in paths.items()}


def outcome(path: Path, whole: Checkpoint) -> str:
    """Read a damaged checkpoint: "whole" if nothing of the content is lost, else the error."""
    try:
        found = read(path)
    except UserError as error:
        return str(error)
    assert found.record == whole.record
    assert same(found.model, whole.model)
    assert same(found.momentum, whole.momentum)
    return "whole"


def damaged_files(
    original: Path, copy: Path, damage: Callable[[bytearray, random.Random], bytearray], times: int
) -> Any:
    """Yield `times` times after damaging one of a checkpoint's files, large ones more often."""
    draw = random.Random(0)
    if original.is_dir():
        shutil.copytree(original, copy)
        files = [path for path in copy.rglob("*") if path.is_file()]
    else:
        shutil.copyfile(original, copy)
        files = [copy]
    weights = [path.stat().st_size + 200 for path in files]
    for _ in range(times):
        (file,) = draw.choices(files, weights)
        content = file.read_bytes()
        file.write_bytes(damage(bytearray(content), draw))
        yield
        file.write_bytes(content)


def flip_bit(content: bytearray, draw: random.Random) -> bytearray:
    if content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return content


def truncate(content: bytearray, draw: random.Random) -> bytearray:
    return content[: draw.randrange(len(content) or 1)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("damage", "times"), [(flip_bit, FLIPS), (truncate, 30)])
def test_no_damage_to_our_own_files_goes_unnoticed(
    form: str, damage: Any, times: int, original: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path, whole = original[form]
    copy = tmp_path / path.name
    outcomes = [outcome(copy, whole) for _ in damaged_files(path, copy, damage, times)]
    errors = [text for text in outcomes if text != "whole"]
    assert len(errors) > times // 3
    assert all(str(copy) in error and len(error.splitlines()) == 1 for error in errors)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_a_tensor_is_found_and_the_tensor_named(form: str, original: Any, tmp_path: Path):
    """In the file, where the tensor's bytes can be found; orbax compresses them, so there in the tree."""
    path, whole = original[form]
    copy = tmp_path / path.name
    if form == "jax":
        record, tree = flax_resnet.checkpoint.read(path)
        sealed = flax_resnet.checkpoint.integrity.seal(record, flax_resnet.checkpoint._digests(tree))
        tree["params"]["linear"]["kernel"].view(np.uint32)[0, 0] ^= 1
        with pytest.raises(UserError, match=r"not the SHA-256 .* in params\.linear\.kernel;"):
            flax_resnet.checkpoint.integrity.check(sealed, flax_resnet.checkpoint._digests(tree), path)
        return
    content = bytearray(path.read_bytes())
    position = content.find(whole.model["linear.weight"].tobytes())
    assert position > 0
    content[position + 5] ^= 1
    copy.write_bytes(content)
    assert "not the SHA-256 that it was saved with in model.linear.weight;" in outcome(copy, whole)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_changed_record_is_found(form: str, original: Any, tmp_path: Path):
    path, whole = original[form]
    content = path.read_bytes()
    changed = content.replace(b'"width": 2', b'"width": 4').replace(b'\\"width\\": 2', b'\\"width\\": 4')
    assert changed != content
    (tmp_path / path.name).write_bytes(changed)
    assert "damaged" in outcome(tmp_path / path.name, whole)


def state_dict() -> dict[str, Any]:
    layout = LAYOUTS["kuangliu"]
    checkpoint = make_checkpoint(describe("resnet18"))
    return {layout.theirs(name): torch.from_numpy(array.copy()) for name, array in checkpoint.model.items()}


def rename(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice(list(tensors))
    tensors[draw.choice([name + "x", name[1:], name.upper(), "", name.replace(".", "..")])] = tensors.pop(
        name
    )


def swap_names(tensors: dict[str, Any], draw: random.Random) -> None:
    a, b = draw.sample([name for name in tensors if tensors[name].ndim], 2)
    while tensors[a].shape == tensors[b].shape:  # nobody can see that
        a, b = draw.sample([name for name in tensors if tensors[name].ndim], 2)
    tensors[a], tensors[b] = tensors[b], tensors[a]


def reshape(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice([name for name in tensors if tensors[name].ndim])
    tensors[name] = tensors[name][None] if draw.random() < 0.5 else tensors[name][:-1]


def retype(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice([name for name in tensors if tensors[name].ndim])
    dtype = draw.choice([torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8])
    tensors[name] = tensors[name].to(dtype)


def miscount(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice([name for name in tensors if not tensors[name].ndim])
    tensors[name] = draw.choice([torch.tensor(-1), torch.tensor([7])])


def poison(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice([name for name in tensors if tensors[name].ndim])
    tensors[name].view(-1)[0] = draw.choice([float("nan"), float("inf"), -float("inf")])


def negate(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice([name for name in tensors if name.endswith("running_var")])
    tensors[name].neg_()


def replace(tensors: dict[str, Any], draw: random.Random) -> None:
    name = draw.choice(list(tensors))
    tensors[name] = draw.choice([None, 3, "text", tensors[name].tolist(), torch.zeros(0), torch.zeros(())])


@pytest.mark.parametrize("damage", [rename, swap_names, reshape, retype, miscount, poison, negate, replace])
@pytest.mark.parametrize("wrapped", [True, False])
def test_structural_damage_to_foreign_files_is_found(damage: Any, wrapped: bool, tmp_path: Path):
    for seed in range(8):
        tensors = state_dict()
        damage(tensors, random.Random(seed))
        path = tmp_path / "theirs.pth"
        torch.save({"net": tensors} if wrapped else tensors, path)
        with pytest.raises(UserError, match=str(path)) as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1


def test_random_bytes_in_foreign_files_never_end_in_a_traceback(tmp_path: Path):
    """A flipped bit in a number can't be seen without a checksum; all else is an error of one line."""
    first = tmp_path / "first.pth"
    torch.save(state_dict(), first)
    copy = tmp_path / "theirs.pth"
    for damage in (flip_bit, truncate):
        for _ in damaged_files(first, copy, damage, 40):
            errors = []
            try:
                found = read(copy)
            except UserError as error:
                errors.append(str(error))
            else:
                assert damage is flip_bit
                assert all(np.isfinite(array).all() for array in found.model.values())
            assert all(len(error.splitlines()) == 1 for error in errors)


BEGINNING = {"conv1.weight": torch.zeros(2, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(2, 2, 3, 3)}
HOSTILE: list[Any] = [
    None, [], {}, "text", torch.zeros(3), {1: torch.zeros(2)},
    {"state_dict": {}}, {"state_dict": None}, {"net": {"conv1.weight": torch.zeros(())}},
    {"record": "{}"}, {"record": "not json", "model": {}}, {"record": "[]", "model": {}}, {"record": "null"},
    {"record": '{"sha256": {"tensors": {}}}', "model": {}}, {"record": '{"sha256": 3}', "model": {"a": 1}},
    BEGINNING, {**BEGINNING, "fc.weight": torch.zeros(())},
    {"layer99999999999.0.conv1.weight": torch.zeros(2, 2, 3, 3)},
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE)
def test_what_is_no_checkpoint_at_all(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save(content, tmp_path / "odd.pt")
    assert main(["inspect", str(tmp_path / "odd.pt")]) == 2
    assert main(["convert", str(tmp_path / "odd.pt"), str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(str(tmp_path / "odd.pt") in error for error in errors)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"model": None}, {"model": {"arch": "resnet18"}}, {"progress": None}, {"progress": {"step": "x"}},
        {"progress": {"step": 7, "sums": None}}, {"config": None}, {"model": {"arch": []}},
    ],
)  # fmt: skip
def test_a_well_sealed_record_may_still_be_nonsense(change: dict[str, Any], tmp_path: Path, capsys: Any):
    """Written by somebody's script, with right checksums."""
    checkpoint = make_checkpoint(describe(), step=7)
    checkpoint.record.update(change)
    tree = {"model": {name: torch.from_numpy(array.copy()) for name, array in checkpoint.model.items()}}
    tree["momentum"] = {n: torch.from_numpy(a.copy()) for n, a in (checkpoint.momentum or {}).items()}
    torch_ref.checkpoint.write(tmp_path / "7.pt", json.loads(json.dumps(checkpoint.record)), tree)
    status = main(["convert", str(tmp_path / "7.pt"), str(tmp_path / "7"), "--no-check"])
    if "config" in change:
        assert status == 0  # the converter does not read it; the run that goes on does
    else:
        assert status == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not (tmp_path / "7").exists()
