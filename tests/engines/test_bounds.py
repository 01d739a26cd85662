"""Small files that ask for much are refused in one line, within seconds and without taking it."""

from __future__ import annotations

import collections
import io
import pickle
import resource
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flax_resnet.checkpoint
import torch_ref.checkpoint
from parity.convert import torch_reader
from recipe.system import torch_files
from recipe.system.errors import UserError

ONE = torch.zeros(1)


class Call:
    """What a pickle calls when it is opened."""

    def __init__(self, function: Any, *arguments: Any):
        self.made = function, arguments

    def __reduce__(self) -> Any:
        return self.made


def saved(content: Any, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def repacked(
    content: bytes,
    method: int = zipfile.ZIP_STORED,
    data: bytes | None = None,
    others: Mapping[str, bytes] | None = None,
) -> bytes:
    """A zip file of torch.save, packed by another method, or with another pickle or other files in it."""
    replaced = {**(others or {}), **({} if data is None else {"data.pkl": data})}
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, replaced.get(name.partition("/")[2], old.read(name)))
    return file.getvalue()


def pickled(content: Any) -> bytes:
    return repacked(saved({}), data=pickle.dumps(content, 2))


def within(value: Any, levels: int, times: int) -> Any:
    for _ in range(levels):
        value = [value] * times
    return value


HUGE: dict[str, Callable[[], bytes]] = {
    "stride 0": lambda: saved({"conv1.weight": ONE.expand(10**6, 10**6)}),
    "stride 0, wrapped": lambda: saved({"net": {"conv1.weight": ONE.expand(20_000, 3, 3, 3)}}),
    "stride 0 in a list": lambda: saved({"optimizer": [(ONE.expand(10**9),)]}),
    "stride 0, legacy": lambda: saved({"conv1.weight": ONE.expand(10**6, 10**6)}, legacy=True),
    "stride 0 of our own": lambda: saved({"record": "{}", "model": {"a": ONE.expand(10**9)}}),
    "overlapping rows": lambda: saved({"a": torch.zeros(3000).as_strided((2000, 1000), (1, 1))}),
    "one storage many times": lambda: saved(dict.fromkeys(map(str, range(100)), torch.zeros(10_000))),
    "packed zeros": lambda: repacked(saved({"a": torch.zeros(10**6)}), zipfile.ZIP_DEFLATED),
    "lists in lists": lambda: saved({"epoch": within(1, 40, 10)}),
    "lists in lists, legacy": lambda: saved({"epoch": within(1, 40, 10)}, legacy=True),
    "too deep": lambda: pickled(within(1, 200, 1)),
    "a key without end": lambda: repacked(saved({}), data=b"\x80\x02}K\x01" + b"2\x86" * 60 + b"Ns."),
    "bytearray": lambda: pickled({"a": Call(bytearray, 10**11)}),
    "a tensor by its size": lambda: pickled({"a": Call(torch.Tensor, 10**6, 10**6)}),
    "a tensor of a type": lambda: pickled({"a": Call(torch.FloatTensor, 10**12)}),
    "a storage": lambda: pickled({"a": Call(torch.UntypedStorage, 10**12)}),
    "an array": lambda: pickled({"a": Call(np.zeros(1).__reduce__()[0], np.ndarray, (10**9,), b"b")}),
    "a sparse tensor": lambda: saved({"a": torch.zeros(9).to_sparse()}),
    "a tensor without values": lambda: saved({"a": torch.empty(10**6, 10**6, device="meta")}),
}


@pytest.fixture
def bounded() -> Iterator[None]:
    """No test may take half a gigabyte more than there was before, or ten seconds."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 1024
    assert time.monotonic() - started < 10


LOAD = [torch_ref.checkpoint.load, torch_reader.load]


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("load", LOAD)
@pytest.mark.parametrize("content", HUGE)
def test_a_small_file_that_asks_for_much_is_refused(content: str, load: Any, tmp_path: Path):
    path = tmp_path / "theirs.pt"
    path.write_bytes(HUGE[content]())
    assert path.stat().st_size < 200_000
    with pytest.raises(
        UserError, match=rf"^{path} was not read: [^\n]*\. Ask its owner for the weights alone"
    ):
        load(path)


SOUND: dict[str, Any] = {
    "tied": {"a": ONE.expand(1), "b": (weight := torch.arange(1000.0)), "c": weight, "d": weight},
    "views": {"a": weight[10:20], "b": weight.view(10, 100).T, "c": torch.zeros(0, 3)},
    "a run": {
        "state_dict": collections.OrderedDict(w=torch.nn.Parameter(torch.zeros(3))),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "groups": [{"betas": (0.9, 1)}]},
        "best": np.float64(0.5), "history": np.arange(5), "size": torch.Size([1]), "dtype": torch.float32,
    },
}  # fmt: skip


@pytest.mark.parametrize("load", LOAD)
@pytest.mark.parametrize("content", SOUND)
@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_no_more_than_it_seems_is_read(content: str, legacy: bool, load: Any, tmp_path: Path):
    path = tmp_path / "theirs.pt"
    path.write_bytes(saved(SOUND[content], legacy=legacy))
    assert load(path).keys() == SOUND[content].keys()


@pytest.mark.parametrize("load", LOAD)
def test_a_zip_file_may_be_packed_again(load: Any, tmp_path: Path):
    path = tmp_path / "theirs.pt"
    path.write_bytes(repacked(saved({"a": torch.randn(10_000)}), zipfile.ZIP_DEFLATED))
    assert load(path)["a"].shape == (10_000,)
    assert torch_files.MULTIPLE > 2  # as much as zeros among weights may save


@pytest.mark.usefixtures("bounded")
def test_an_orbax_folder_that_says_more_than_it_holds_is_not_read(tmp_path: Path):
    path = tmp_path / "7"
    flax_resnet.checkpoint.write(path, {}, {"params": {"a": np.zeros((4, 3), np.float32)}})
    assert flax_resnet.checkpoint.read(path)[1]["params"]["a"].shape == (4, 3)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(flax_resnet.checkpoint, "SMALL", 0)
        monkeypatch.setattr(flax_resnet.checkpoint, "MULTIPLE", 0)
        with pytest.raises(UserError, match=r"7 was not read: .* and its arrays are said to have 48;"):
            flax_resnet.checkpoint.read(path)
