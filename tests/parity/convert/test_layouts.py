"""Which network a state dict is, told from names and shapes; and what is refused, with its reason."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from parity.budgets.reference import reference_errors, scaled
from parity.convert import state_dicts
from parity.convert.files import read
from parity.convert.layouts import LAYOUTS
from parity.convert.state_dicts import wanted_shapes
from parity.engines import FlaxNetwork
from parity.tensors import to_numpy, to_tensor
from recipe.system.errors import UserError
from tests.parity.helpers import describe, disturb, random_arrays


def from_state_dict(tensors: Mapping[str, Tensor], layout: str | None) -> Any:
    """`state_dicts.from_state_dict`, for PyTorch's tensors."""
    return state_dicts.from_state_dict({name: to_numpy(tensor) for name, tensor in tensors.items()}, layout)


def state_dict(name: str, arch: str = "", width: int = 2, classes: int = 10) -> dict[str, Tensor]:
    """Random tensors in a layout's names."""
    layout = LAYOUTS[name]
    shapes = wanted_shapes(describe(arch or layout.archs[0], layout.stem, width, classes))
    arrays = random_arrays(shapes, np.float32)
    return {layout.theirs(key): to_tensor(array) for key, array in arrays.items()}


def cifar_torchvision(max_pool: bool) -> nn.Module:
    """torchvision's ResNet18 with the stem that huyvnphan and edadaltocg give it."""
    model = torchvision.models.resnet18(num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    if not max_pool:
        model.maxpool = nn.Identity()
    return model


class Chenyaofo(nn.Module):
    """ResNet20 with convolutions in the shortcuts, made of torchvision's blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for i, width in enumerate((16, 32, 64)):
            blocks = []
            for j in range(3):
                down, stride = None, 1
                if i and not j:
                    stride = 2
                    down = nn.Sequential(nn.Conv2d(inputs, width, 1, 2, bias=False), nn.BatchNorm2d(width))
                blocks.append(BasicBlock(inputs, width, stride, down))
                inputs = width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


def renamed(model: nn.Module, layout: str) -> nn.Module:
    """A network of torchvision's parts whose state dict has a layout's names."""
    model = copy.deepcopy(model)

    def in_their_names(module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
        ours = {n.replace("downsample", "shortcut").replace("fc.", "linear."): t for n, t in state.items()}
        state.clear()
        state.update({LAYOUTS[layout].theirs(name): tensor for name, tensor in ours.items()})

    model.register_state_dict_post_hook(in_their_names)
    return model


# Networks that this project did not write, by the layout in which they name their tensors.
REFERENCES: dict[str, tuple[str, Callable[[], nn.Module], int]] = {
    "torchvision 18": ("torchvision", torchvision.models.resnet18, 64),
    "torchvision 34": ("torchvision", torchvision.models.resnet34, 64),
    "torchvision 50": ("torchvision", torchvision.models.resnet50, 64),
    "torchvision 101": ("torchvision", torchvision.models.resnet101, 64),
    "torchvision 152": ("torchvision", torchvision.models.resnet152, 64),
    "huyvnphan": ("huyvnphan", lambda: cifar_torchvision(max_pool=True), 32),
    "edadaltocg": ("edadaltocg", lambda: cifar_torchvision(max_pool=False), 32),
    "chenyaofo": ("chenyaofo", Chenyaofo, 32),
    "weiaicunzai": ("weiaicunzai", lambda: renamed(cifar_torchvision(max_pool=False), "weiaicunzai"), 32),
    "transformers 50": ("transformers", lambda: renamed(torchvision.models.resnet50(), "transformers"), 64),
    "openmmlab": ("openmmlab", lambda: renamed(torchvision.models.resnet18(), "openmmlab"), 64),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_flax_gives_the_logits_of_the_original_network(name: str):
    """Random weights, disturbed statistics; float64 within the budget that the original's rounding sets."""
    layout, make, size = REFERENCES[name]
    torch.manual_seed(0)
    model = disturb(make()).eval()
    found, description, tensors = from_state_dict(model.state_dict(), layout)
    images = np.random.default_rng(1).normal(size=(2, size, size, 3))

    def reference(images: np.ndarray, precision: str) -> np.ndarray:
        dtype = {"f32": torch.float32, "f64": torch.float64}[precision]
        with torch.inference_mode():
            return model.to(dtype)(torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2)).numpy()

    ours = FlaxNetwork(description, tensors, "f64").logits(images)
    theirs = reference(images, "f64")
    assert np.abs(theirs - theirs.mean(axis=0)).max() > 1e-3 * np.abs(theirs).max()  # the input matters
    errors = reference_errors(lambda x, p: {"logits": reference(x, p)}, images, "f32")
    assert np.abs(ours - theirs).max() <= scaled(errors, "f64")["logits"]
    assert (found.name, description.num_classes) == (layout, theirs.shape[1])


def test_dialects_are_those_of_the_projects():
    """Names copied from weiaicunzai/pytorch-cifar100, transformers 4.57 and mmpretrain."""
    ours = (
        "conv1.weight", "bn1.running_var", "layer2.0.conv1.weight", "layer4.1.bn2.bias",
        "layer3.0.shortcut.0.weight", "layer3.0.shortcut.1.bias", "layer1.2.conv3.weight", "linear.bias",
    )  # fmt: skip
    stages = "resnet.encoder.stages"
    theirs = {
        "weiaicunzai": (
            "conv1.0.weight", "conv1.1.running_var", "conv3_x.0.residual_function.0.weight",
            "conv5_x.1.residual_function.4.bias", "conv4_x.0.shortcut.0.weight", "conv4_x.0.shortcut.1.bias",
            "conv2_x.2.residual_function.6.weight", "fc.bias",
        ),
        "transformers": (
            "resnet.embedder.embedder.convolution.weight",
            "resnet.embedder.embedder.normalization.running_var",
            f"{stages}.1.layers.0.layer.0.convolution.weight",
            f"{stages}.3.layers.1.layer.1.normalization.bias",
            f"{stages}.2.layers.0.shortcut.convolution.weight",
            f"{stages}.2.layers.0.shortcut.normalization.bias",
            f"{stages}.0.layers.2.layer.2.convolution.weight",
            "classifier.1.bias",
        ),
        "openmmlab": (
            "backbone.conv1.weight", "backbone.bn1.running_var", "backbone.layer2.0.conv1.weight",
            "backbone.layer4.1.bn2.bias", "backbone.layer3.0.downsample.0.weight",
            "backbone.layer3.0.downsample.1.bias", "backbone.layer1.2.conv3.weight", "head.fc.bias",
        ),
    }  # fmt: skip
    for layout, names in theirs.items():
        assert tuple(map(LAYOUTS[layout].theirs, ours)) == names
        assert tuple(LAYOUTS[layout].ours(dict.fromkeys(names, ()))) == ours


@pytest.mark.parametrize(
    "name",
    ["kuangliu", "torchvision", "akamaster", "chenyaofo", "weiaicunzai", "transformers", "openmmlab_cifar"],
)
def test_layouts_are_recognised(name: str):
    for arch in LAYOUTS[name].archs[:3]:
        found, description, _ = from_state_dict(state_dict(name, arch), None)
        assert (found.name, description.arch, description.width) == (name, arch, 2)


def test_classes_and_normalisation_are_the_layouts_own():
    _, ten, _ = from_state_dict(state_dict("chenyaofo"), None)
    assert (ten.dataset, ten.class_names[3], ten.std) == ("cifar10", "cat", (0.2023, 0.1994, 0.2010))
    _, hundred, _ = from_state_dict(state_dict("chenyaofo", classes=100), None)
    assert (hundred.dataset, hundred.class_names[99]) == ("cifar100", "worm")
    assert hundred.mean == (0.5070, 0.4865, 0.4409)
    _, thousand, _ = from_state_dict(state_dict("torchvision", classes=1000), None)
    assert (thousand.class_names[0], thousand.image_size) == ("tench", 224)
    _, other, _ = from_state_dict(state_dict("akamaster", classes=3), None)
    assert (other.dataset, other.class_names) == ("unknown", ("0", "1", "2"))


def test_two_layouts_of_one_name_and_shape_are_not_guessed():
    with pytest.raises(UserError, match=r"--layout=edadaltocg or --layout=huyvnphan"):
        from_state_dict(state_dict("huyvnphan"), None)
    stems = [from_state_dict(state_dict("huyvnphan"), name)[1].stem for name in ("huyvnphan", "edadaltocg")]
    assert stems == ["cifar_pool", "cifar"]


def test_all_differences_are_named_at_once_with_the_nearest_name():
    tensors = state_dict("torchvision")
    tensors["layer1.0.bn1.wieght"] = tensors.pop("layer1.0.bn1.weight")
    tensors["layer2.0.shortcut.0.weight"] = tensors.pop("layer2.0.downsample.0.weight")
    tensors["layer3.1.conv2.weight"] = tensors["layer3.1.conv2.weight"].transpose(0, 2)
    tensors["extra"] = torch.zeros(1)
    with pytest.raises(UserError) as caught:
        from_state_dict(tensors, "torchvision")
    message = str(caught.value)
    assert "missing layer1.0.bn1.weight (is it layer1.0.bn1.wieght?)" in message
    assert "missing layer2.0.downsample.0.weight" in message
    assert "unexpected layer2.0.shortcut.0.weight" in message
    assert "unexpected extra" in message
    assert "layer3.1.conv2.weight has shape (3, 8, 8, 3) instead of (8, 8, 3, 3)" in message


def preact(tensors: dict[str, Tensor]) -> None:
    for stage in (2, 3, 4):
        width = len(tensors[f"layer{stage}.0.bn1.weight"]) // 2
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"layer{stage}.0.bn1.{leaf}"] = torch.ones(width)
        for key in [key for key in tensors if key.startswith(f"layer{stage}.0.shortcut.1")]:
            del tensors[key]


def no_shortcut_norm(tensors: dict[str, Tensor]) -> None:
    for key in [key for key in tensors if ".shortcut.1." in key]:
        del tensors[key]


def grouped(tensors: dict[str, Tensor]) -> None:
    tensors["layer1.0.conv2.weight"] = tensors["layer1.0.conv2.weight"][:, :1]


def attention(tensors: dict[str, Tensor]) -> None:
    tensors["layer1.0.se.fc.weight"] = torch.ones(2, 2)


def deep_stem(tensors: dict[str, Tensor]) -> None:
    tensors["conv1.0.weight"] = tensors.pop("conv1.weight")


def biased(tensors: dict[str, Tensor]) -> None:
    tensors["conv1.bias"] = torch.zeros(2)


def deeper(tensors: dict[str, Tensor]) -> None:
    tensors["layer1.2.conv1.weight"] = tensors["layer1.1.conv1.weight"]


REFUSED = [
    (preact, "pre-activation"), (no_shortcut_norm, "shortcuts have no batch norm"), (grouped, "ResNeXt"),
    (attention, "squeeze-and-excitation"), (deep_stem, "stem is deep"), (biased, "biases"),
    (deeper, r"\(3, 2, 2, 2\) basic blocks"), (dict.clear, "conv1.weight"),
]  # fmt: skip


@pytest.mark.parametrize("layout", [None, "kuangliu"])
@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_other_functions_are_refused_with_the_reason(change, reason: str, layout: str | None):
    tensors = state_dict("kuangliu")
    change(tensors)
    with pytest.raises(UserError, match=reason):
        from_state_dict(tensors, layout)


def test_wide_networks_are_refused():
    with pytest.raises(UserError, match="Wide ResNet"):
        from_state_dict(torchvision.models.wide_resnet50_2().state_dict(), None)


def test_a_layout_that_is_not_the_files_is_refused():
    for name, other in (("kuangliu", "torchvision"), ("akamaster", "chenyaofo"), ("torchvision", "kuangliu")):
        with pytest.raises(UserError, match=f"not a checkpoint in the layout {other}"):
            from_state_dict(state_dict(name), other)
    with pytest.raises(UserError, match="unknown layout 'kuangliou'; did you mean 'kuangliu'"):
        from_state_dict(state_dict("kuangliu"), "kuangliou")


def test_batch_counters_are_all_there_or_none():
    tensors = state_dict("kuangliu")
    del tensors["bn1.num_batches_tracked"]
    with pytest.raises(UserError, match=r"missing bn1\.num_batches_tracked"):
        from_state_dict(tensors, None)


def test_a_file_with_two_sets_of_weights_is_not_guessed(tmp_path: Path):
    ema = {key: tensor + 1 for key, tensor in state_dict("kuangliu").items()}
    torch.save({"state_dict": state_dict("kuangliu"), "state_dict_ema": ema}, tmp_path / "both.pt")
    with pytest.raises(UserError, match=r"--weights=state_dict"):
        read(tmp_path / "both.pt")
    found = read(tmp_path / "both.pt", weights="state_dict_ema")
    np.testing.assert_array_equal(found.model["linear.bias"], ema["linear.bias"].numpy())
    with pytest.raises(UserError, match="unknown weights 'ema'"):
        read(tmp_path / "both.pt", weights="ema")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_reported_with_their_names(value: float, tmp_path: Path):
    tensors = state_dict("torchvision")
    tensors["layer2.0.downsample.0.weight"][0, 0] = value
    tensors["fc.bias"][1] = value
    torch.save(tensors, tmp_path / "bad.pt")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "bad.pt")
    assert re.search(r"downsample\.0\.weight has 1 of 8 values that are NaN", str(caught.value))
    assert "fc.bias has 1 of 10" in str(caught.value)
