"""Files of torch.save read without PyTorch hold what was saved, and run nothing."""

from __future__ import annotations

import argparse
import codecs
import collections
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.convert import torch_reader
from parity.tensors import to_numpy
from recipe.system.errors import UserError
from tests.engines.test_bounds import Call, repacked, saved

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.uint16,
]  # fmt: skip


def assert_same(ours: Any, theirs: Any) -> None:
    """What was read with NumPy's arrays is what PyTorch saved."""
    if isinstance(theirs, torch.Tensor):
        assert str(theirs.dtype) == f"torch.{ours.dtype.name}"
        assert tuple(theirs.shape) == ours.shape
        data = (
            theirs.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy()
        )
        assert np.ascontiguousarray(ours).tobytes() == data.tobytes()
    elif isinstance(theirs, np.ndarray):
        np.testing.assert_array_equal(ours, theirs)  # NumPy turns its bytes into this computer's order
        assert (ours.dtype.name, ours.shape) == (theirs.dtype.name, theirs.shape)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        assert isinstance(ours, dict)
        for name, value in theirs.items():
            assert_same(ours[name], value)
    elif isinstance(theirs, list | tuple):
        assert isinstance(ours, list | tuple)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif not type(theirs).__module__.startswith(("torch", "argparse")):
        assert ours == theirs


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Of any dtype and shape, and any part of another one, in any order of axes."""
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    dtype = draw(st.sampled_from(DTYPES))
    tensor = torch.arange(int(np.prod([size + 1 for size in shape]))).reshape([size + 1 for size in shape])
    tensor = tensor.to(torch.float32 if "float8" in str(dtype) else dtype).to(dtype)
    tensor = tensor[tuple(slice(draw(st.integers(0, 1)), None) for _ in shape)]
    return tensor.permute(draw(st.permutations(range(tensor.ndim))))


SHARED = torch.arange(24.0).reshape(2, 3, 4)
values = (
    tensors()
    | st.sampled_from([SHARED, SHARED[1], SHARED.mT, SHARED.reshape(-1)[5:7], torch.nn.Parameter(SHARED)])
    | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.builds(np.float64, st.floats(allow_nan=False))
    | st.sampled_from([np.arange(3, dtype=">f4"), np.int8(2)])
)  # fmt: skip
contents = st.recursive(
    st.dictionaries(st.text(), values, max_size=4),
    lambda inner: (
        st.dictionaries(st.text() | st.integers(), inner | values, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=2).map(collections.OrderedDict)
        | st.lists(inner | values, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(content=contents, legacy=st.booleans())
def test_what_is_read_is_what_was_saved(content: Any, legacy: bool, tmp_path_factory: pytest.TempPathFactory):
    check_reader(content, legacy, tmp_path_factory.mktemp("file") / "a.pth")


@pytest.mark.heavy
@settings(max_examples=5_000, deadline=None)
@given(content=contents, legacy=st.booleans())
def test_what_is_read_is_what_was_saved_for_long(
    content: Any, legacy: bool, tmp_path_factory: pytest.TempPathFactory
):
    check_reader(content, legacy, tmp_path_factory.getbasetemp() / "a.pth")


def check_reader(content: Any, legacy: bool, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert_same(torch_reader.load(path), content)


RUN: dict[str, Any] = {
    "state_dict": torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)).state_dict(),
    "args": argparse.Namespace(lr=0.1), "size": torch.Size([1, 2]), "dtype": torch.bfloat16,
    "device": torch.device("cuda", 1), "history": np.arange(4), "names": np.array(["a", "bc"]), "set": {1, 2},
    "best": np.float32(0.5), "name": np.str_("cifar10"), "count": collections.Counter("aab"), "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, 6))
def test_what_a_run_leaves_is_read_by_any_protocol(protocol: int, tmp_path: Path):
    torch.save(RUN, tmp_path / "run.pth", pickle_protocol=protocol)
    found = torch_reader.load(tmp_path / "run.pth")
    assert_same({**found, "count": None}, {**RUN, "count": None})
    assert (found["size"], found["count"], found["set"]) == ((1, 2), {"a": 2, "b": 1}, {1, 2})
    assert (found["dtype"].name, found["device"].name) == ("torch.bfloat16", "torch.device('cuda', 1)")
    assert found["args"].lr == 0.1


def test_files_of_the_other_byte_order_are_read(tmp_path: Path):
    content = {"a": torch.arange(3.0), "b": torch.tensor([1.5, -2], dtype=torch.bfloat16)}
    swapped = [to_numpy(tensor).byteswap().tobytes() for tensor in content.values()]
    others = {"byteorder": b"big", "data/0": swapped[0], "data/1": swapped[1]}
    (tmp_path / "big.pth").write_bytes(repacked(saved(content), others=others))
    assert_same(torch_reader.load(tmp_path / "big.pth"), content)


EVIL = {
    "a system call": Call(os.system, "true"),
    "eval": Call(eval, "1"),
    "an import": Call(__import__, "os"),
    "an attribute": Call(getattr, 1, "real"),
    "a codec": Call(codecs.encode, "a", "zip"),
    "an array of objects": np.array([None]),
    "a class": argparse.ArgumentParser,
    "PyTorch's loader": Call(torch.load, "b.pth"),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("what", EVIL)
def test_nothing_else_is_taken_from_any_module(what: str, protocol: int, tmp_path: Path):
    path = tmp_path / "evil.pth"
    path.write_bytes(repacked(saved({}), data=pickle.dumps({"a": EVIL[what]}, protocol)))
    with pytest.raises(UserError, match=r"was not opened, since that would run code from the file \(\S"):
        torch_reader.load(path)


def test_what_is_given_to_a_file_cannot_be_changed_by_it(tmp_path: Path):
    """BUILD sets attributes of what stands before it, of a class or a function as well."""
    state = pickle.dumps((None, {"__defaults__": (1,), "__init__": 1, "a": 1}), 2)[2:-1]
    for name in torch_reader._harmless():
        module, _, last = name.rpartition(".")
        path = tmp_path / "evil.pth"
        path.write_bytes(
            repacked(saved({}), data=b"\x80\x02c" + f"{module}\n{last}\n".encode() + state + b"b.")
        )
        before = {key: str(value) for key, value in vars(torch_reader).items()}
        if name == "argparse.Namespace":  # a new class each time
            assert torch_reader.load(path) is not torch_reader.load(path)
            continue
        with pytest.raises(UserError):
            torch_reader.load(path)
        assert {key: str(value) for key, value in vars(torch_reader).items()} == before
    assert not hasattr(collections.OrderedDict, "a")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pickle.dumps(3), None),
        (b"", "not a readable checkpoint"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "a NumPy array of dtype O"),
        (b"\x80\x02U\x01ab.", "not a readable checkpoint"),
        (b"\x80\x02U\x01aQ.", "not a readable checkpoint"),
    ],
)
def test_a_strange_pickle_is_one_line(data: bytes, reason: str | None, tmp_path: Path):
    (tmp_path / "a.pth").write_bytes(repacked(saved({}), data=data))
    if reason is None:
        assert torch_reader.load(tmp_path / "a.pth") == 3
        return
    with pytest.raises(UserError, match=reason) as caught:
        torch_reader.load(tmp_path / "a.pth")
    assert len(str(caught.value).splitlines()) == 1


def test_torchscript_is_called_that(tmp_path: Path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(UserError, match=r"would run code from the file \(TorchScript\)"):
        torch_reader.load(tmp_path / "script.pt")


def test_a_storage_shorter_than_its_tensors_is_no_tensor(tmp_path: Path):
    file = io.BytesIO()
    torch.save({"a": torch.zeros(8)}, file)
    short = repacked(file.getvalue(), others={"data/0": bytes(16)})
    (tmp_path / "a.pth").write_bytes(short)
    with pytest.raises(UserError, match="storage 0 has 16 bytes, not 8 values of float32"):
        torch_reader.load(tmp_path / "a.pth")
