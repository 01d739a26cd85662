"""Damaged files end in one clear line, never in a wrong success and never in a traceback."""

from __future__ import annotations

import importlib
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import flax_resnet.checkpoint
import torch_ref.checkpoint
from parity.__main__ import main
from parity.convert.files import Checkpoint, read
from parity.convert.layouts import LAYOUTS
from recipe.system import integrity
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
    named = r"not the SHA-256 that it was saved with in model\.linear\.weight;"
    if form == "torch":  # of which zip's own checksum is looked at before
        with pytest.raises(UserError, match=named):
            torch_ref.checkpoint.read(copy)
        named = r"is damaged \(Bad CRC-32 for file '.*/data/\d+'\): download or copy it again"
    assert re.search(named, outcome(copy, whole))


@pytest.mark.parametrize("checksums", [True, False])
def test_zips_checksums_are_checked_where_there_are_some(
    checksums: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tensors, path = state_dict(), tmp_path / "theirs.pth"
    torch.serialization.set_crc32_options(checksums)
    try:
        torch.save(tensors, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert main(["inspect", str(path)]) == 0
    row = "every tensor has the CRC-32" if checksums else "no checksums (a flipped bit that"
    assert f"integrity:       {row}" in capsys.readouterr().out
    content = bytearray(path.read_bytes())
    content[content.find(tensors["linear.weight"].numpy().tobytes()) + 4] ^= 1
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == (2 if checksums else 0)
    assert ("theirs.pth is damaged (Bad CRC-32 for" in capsys.readouterr().err) == checksums


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


ESCAPE = "\x1b[2J\nerror: all is well"
NONSENSE: list[tuple[str, Any]] = [  # where in a record, and what stands there
    ("model", None), ("model", {"arch": "resnet18"}), ("model", []), ("model.arch", []),
    ("model.arch", ESCAPE), ("model.stem", {}), ("model.width", 2.0), ("model.width", True),
    ("model.width", "2"), ("model.width", -1), ("model.width", 20_000), ("model.width", 10**9),
    ("model.width", 2**70), ("model.image_size", 10**6), ("model.image_size", 0),
    ("model.image_size", 32.0), ("model.class_names", {}), ("model.class_names", []),
    ("model.class_names", "abc"), ("model.class_names", ["a", 1, "c"]),
    ("model.class_names", ["\ud800"] * 3), ("model.mean", [0, 0]), ("model.mean", [0, 0, None]),
    ("model.mean", [0, 0, 10**400]), ("model.std", 1), ("model.std", [1, 1, 0]),
    ("model.std", [1, 1, float("nan")]), ("model.dataset", 3), ("model.guessed", "mean"),
    ("model.guessed", [["mean"]]), ("model.more", 1), ("progress", None), ("progress", 3),
    ("source", None), ("config", ""),
    ("progress.step", "x"), ("progress.step", -1), ("progress.step", 7.0), ("progress.step", 2**70),
    ("progress.step", 2**31), ("progress.sums", None), ("progress.sums", []), ("progress.sums.loss", "0"),
    ("progress.sums.loss", 10**400), ("progress.sums.correct", 0.5), ("progress.sums.steps", -3),
    ("source", []), ("source.layout", []), ("source.wrapper", 3), ("source.fields", "x"),
    ("source.beside", [1]), ("config", 3), ("config.data", []), ("config.data.holdout", "all"),
    ("config.data.holdout", -1), ("config.data.holdout", 0.5),
]  # fmt: skip


def sealed_nonsense(original: Any, form: str, where: str, value: Any, folder: Path) -> Path:
    """A whole checkpoint with right checksums and a wrong value in its record, as a script may write it."""
    path, whole = original[form]
    copy = folder / path.name
    record = json.loads(json.dumps({**whole.record, "source": {}, "config": {"data": {}}}))
    *outer, last = where.split(".")
    inner = record
    for name in outer:
        inner = inner[name]
    inner[last] = value
    if form == "jax":
        shutil.copytree(path, copy, dirs_exist_ok=True)
        sealed = json.loads((copy / "record" / "metadata").read_text())
        sealed = integrity.seal(record, sealed["sha256"]["tensors"])
        (copy / "record" / "metadata").write_text(json.dumps(sealed))
    elif form == "torch":
        content = torch.load(path)
        tree = {name: tensors for name, tensors in content.items() if name != "record"}
        torch_ref.checkpoint.write(copy, record, tree)
    else:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            sealed = json.loads(file.metadata()["record"])
        sealed = integrity.seal(record, sealed["sha256"]["tensors"])
        safetensors.torch.save_file(tensors, copy, {"record": json.dumps(sealed)})
    return copy


@pytest.mark.parametrize("form", FORMS)
def test_a_well_sealed_record_may_still_be_nonsense(form: str, original: Any, tmp_path: Path):
    for where, value in NONSENSE[:: 5 if form == "jax" else 1]:
        if form == "safetensors" and where.startswith("progress."):
            continue  # which it does not hold
        path = sealed_nonsense(original, form, where, value, tmp_path)
        with pytest.raises(UserError) as caught:
            read(path)
        message = str(caught.value)
        assert str(path) in message
        assert message.isprintable(), message
        assert len(message) < len(str(path)) + 300


@pytest.mark.parametrize("engine", ["flax_resnet", "torch_ref"])
def test_nor_is_it_evaluated(engine: str, original: Any, tmp_path: Path):
    package = importlib.import_module(engine)
    form = {"flax_resnet": "jax", "torch_ref": "torch"}[engine]
    for where, value in NONSENSE[2::9]:
        path = sealed_nonsense(original, form, where, value, tmp_path)
        with pytest.raises(UserError) as caught:
            package.load(str(path))
        assert str(path) in str(caught.value)
        assert str(caught.value).isprintable()


def test_a_record_without_end_or_bottom_is_one_line(original: Any, tmp_path: Path):
    path, _ = original["torch"]
    content = torch.load(path)
    for record in (
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5_000,
        '{"sha256": ' + "[" * 500 + "]" * 500 + "}",
    ):
        torch.save({**content, "record": record}, tmp_path / "7.pt")
        with pytest.raises(UserError, match=r"7\.pt is not a readable checkpoint") as caught:
            read(tmp_path / "7.pt")
        assert "\n" not in str(caught.value)


def test_names_of_a_file_do_not_reach_the_terminal_as_they_are(tmp_path: Path, capsys: Any):
    tensors = {**state_dict(), ESCAPE: torch.zeros(1)}
    torch.save({"net": tensors, ESCAPE: 3}, tmp_path / "theirs.pth")
    assert main(["inspect", str(tmp_path / "theirs.pth")]) in (0, 2)
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / "out"), "--no-check"]) in (0, 2)
    said = capsys.readouterr()
    assert "\\x1b[2J\\nerror: all is well" in said.out + said.err
    assert "\x1b" not in said.out + said.err
    assert "error: all is well" not in (said.out + said.err).splitlines()


@pytest.mark.parametrize(
    ("version", "opens"), [("2.5.1+cpu", False), ("2.9.1", False), ("2.10.0", True), ("3.0", True)]
)
def test_a_pytorch_that_a_file_can_make_run_code_opens_none(
    version: str, opens: bool, original: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch, "__version__", torch.torch_version.TorchVersion(version))
    path, whole = original["torch"]
    if opens:
        assert torch_ref.checkpoint.read(path)[0] == whole.record
    else:
        with pytest.raises(UserError, match=r"PyTorch .* can be made to run code .* install PyTorch 2\.10"):
            torch_ref.checkpoint.read(path)
    assert outcome(path, whole) == "whole"  # as it is read without PyTorch
