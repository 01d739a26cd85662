"""What goes to the other framework and back is the same, bit for bit, and what was absent stays absent."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parity import to_flax, to_torch
from parity.convert.files import Checkpoint, read
from parity.convert.layouts import LAYOUTS, OURS
from parity.convert.state_dicts import wanted_shapes
from parity.tensors import to_tensor
from recipe.architectures import ARCHITECTURES, STEMS
from recipe.state_dict import COUNTER
from recipe.system.errors import UserError
from tests.parity.helpers import describe, make_checkpoint, random_arrays, same, save

DTYPES = [np.float32, np.float64, ml_dtypes.bfloat16, np.float16]
SMALL = [name for name, a in ARCHITECTURES.items() if sum(a.depths) <= 16]  # the rest only repeats blocks

descriptions = st.builds(
    describe,
    arch=st.sampled_from(SMALL),
    stem=st.sampled_from(list(STEMS)),
    width=st.sampled_from([2, 4, 6]),
    classes=st.integers(1, 12),
)
checkpoints = st.builds(
    make_checkpoint,
    descriptions,
    st.sampled_from(DTYPES),
    step=st.one_of(st.none(), st.integers(0, 2**31 - 1)),
    counters=st.booleans(),
    momentum=st.booleans(),
)


def assert_equal(a: Checkpoint, b: Checkpoint) -> None:
    assert a.record == b.record
    assert same(a.model, b.model)
    assert same(a.momentum, b.momentum)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoint=checkpoints)
def test_torch_to_jax_to_torch_and_back_keep_every_byte(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("round")
    first = read(save(folder / "1.pt", checkpoint, "torch"))
    assert_equal(checkpoint, first)
    in_jax = read(save(folder / "2", first, "jax"))
    assert_equal(checkpoint, in_jax)
    again = read(save(folder / "3.pt", in_jax, "torch"))
    assert_equal(checkpoint, again)
    assert_equal(checkpoint, read(save(folder / "4", again, "jax")))
    a, b = (torch.load(folder / name, weights_only=True) for name in ("1.pt", "3.pt"))
    assert a.keys() == b.keys()
    assert a["record"] == b["record"]  # the SHA-256 of every tensor is in it
    assert list(a["model"]) == list(b["model"])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(checkpoint=checkpoints)
def test_safetensors_keep_weights_and_description(
    checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("round")
    found = read(save(folder / "1.safetensors", checkpoint, "safetensors"))
    assert same(checkpoint.model, found.model)
    assert found.record == {k: v for k, v in checkpoint.record.items() if k != "progress"}
    assert found.momentum is None
    if checkpoint.step is None:
        assert_equal(found, read(save(folder / "2", found, "jax")))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    layout=st.sampled_from(list(LAYOUTS.values())),
    dtype=st.sampled_from(DTYPES),
    classes=st.integers(1, 12),
    counters=st.booleans(),
    data=st.data(),
)
def test_state_dicts_of_every_layout_come_back_bit_for_bit(
    layout, dtype, classes: int, counters: bool, data: st.DataObject
):
    arch = data.draw(st.sampled_from([arch for arch in layout.archs if arch in SMALL]))
    shapes = wanted_shapes(describe(arch, layout.stem, 2, classes))
    arrays = random_arrays({n: s for n, s in shapes.items() if counters or not n.endswith(COUNTER)}, dtype)
    state_dict = {layout.theirs(name): to_tensor(array) for name, array in arrays.items()}
    tree = to_flax(state_dict, layout.name)
    assert (COUNTER in tree) == counters
    assert tree["params"]["conv1"]["kernel"].shape[2:] == (3, 2)  # HWIO
    assert tree["params"]["conv1"]["kernel"].dtype == dtype
    again = to_torch(tree, layout.name)
    assert again.keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name].view(torch.uint8) if tensor.ndim else again[name],
                           tensor.view(torch.uint8) if tensor.ndim else tensor)  # fmt: skip


FOREIGN = [  # layout, wrapper, prefix, other fields
    ("akamaster", "state_dict", "module.", {"best_prec1": 91.78}),
    ("kuangliu", "net", "module.", {"acc": 95.47, "epoch": 199}),
    ("torchvision", "", "", {}),
    ("edadaltocg", "state_dict_ema", "_orig_mod.", {}),
    ("huyvnphan", "", "", {"note": "x"}),
    ("chenyaofo", "model", "module._orig_mod.", {"args": {"lr": [0.1, 0.01]}, "none": None}),
]


@pytest.mark.parametrize(("name", "wrapper", "prefix", "fields"), FOREIGN)
@pytest.mark.parametrize("dtype", DTYPES)
def test_foreign_files_come_back_as_they_were(name, wrapper, prefix, fields, dtype, tmp_path: Path):
    layout = LAYOUTS[name]
    arrays = random_arrays(wanted_shapes(describe(layout.archs[0], layout.stem)), dtype)
    tensors = {prefix + layout.theirs(n): to_tensor(array) for n, array in arrays.items()}
    torch.save({wrapper: tensors, **fields} if wrapper else {**tensors, **fields}, tmp_path / "theirs.pth")
    found = read(tmp_path / "theirs.pth", layout=name)
    in_jax = read(save(tmp_path / "jax", found, "jax"))
    save(tmp_path / "again.pth", in_jax, "torch", layout)
    first, again = (torch.load(tmp_path / f, weights_only=True) for f in ("theirs.pth", "again.pth"))
    assert first.keys() == again.keys()
    a, b = (file[wrapper] if wrapper else file for file in (first, again))
    assert list(a) == list(b)
    for key, value in a.items():
        assert torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key]
        assert getattr(value, "dtype", None) == getattr(b[key], "dtype", None)
    assert {k: v for k, v in first.items() if k in fields} == fields


def test_the_jax_form_has_no_counters_where_they_are_the_step(tmp_path: Path):
    from flax_resnet.checkpoint import read as read_jax

    trained = make_checkpoint(describe(), step=9)
    assert COUNTER not in read_jax(save(tmp_path / "9", trained, "jax"))[1]
    odd = make_checkpoint(describe(), step=9)
    odd.model["bn1.num_batches_tracked"] = np.asarray(8, np.int64)
    assert COUNTER in read_jax(save(tmp_path / "odd", odd, "jax"))[1]
    assert_equal(odd, read(tmp_path / "odd"))
    assert OURS.theirs("bn1.weight") == "bn1.weight"


def test_in_memory_errors_are_one_line():
    tensors = {n: to_tensor(a) for n, a in make_checkpoint(describe("resnet18")).model.items()}
    with pytest.raises(UserError, match=r"linear\.bias is a ndarray"):
        to_flax({**tensors, "linear.bias": tensors["linear.bias"].numpy()})
    tree = to_flax(tensors)
    with pytest.raises(UserError, match=r"conv1\.weight"):
        to_torch({"batch_stats": tree["batch_stats"]})
    linen = {"conv_init": {"kernel": np.zeros((3, 3, 3, 8))}, "ResNetBlock_0": {"Conv_0": {}}}
    with pytest.raises(UserError, match=r"names of Flax linen \(ResNetBlock_0\)"):
        to_torch({"params": linen})
    for odd in ({"kernel": np.zeros((2, 2, 2))}, {"weight": np.zeros(2)}):
        with pytest.raises(UserError, match="not the tree of a network"):
            to_torch({**tree, "params": {**tree["params"], "odd": odd}})
