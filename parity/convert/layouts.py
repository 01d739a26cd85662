"""The names that other projects give to the tensors of the same networks.

Most differ from this project's in two places only, the shortcuts and the linear layer; others have a dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from parity.convert import guesses
from parity.convert.dialects import OPENMMLAB, TRANSFORMERS, WEIAICUNZAI, Dialect
from parity.convert.guesses import Normalisation
from recipe.architectures import ARCHITECTURES, STEMS, ModelDescription
from recipe.data.cifar.facts import CIFAR
from recipe.system.errors import UserError, choice

Shapes = Mapping[str, tuple[int, ...]]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
THIN = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
THIN_B = ("resnet20b", "resnet32b", "resnet44b", "resnet56b")

_KUANGLIU = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
_CIFAR100 = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
_CHENYAOFO_100 = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
_WEIAICUNZAI = (
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)
_OPENMMLAB_CIFAR = (0.49140, 0.48220, 0.44650), (0.20230, 0.19940, 0.20100)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Layout(NamedTuple):
    """How one project names the tensors of a network, and which networks it has."""

    name: str
    origin: str
    archs: tuple[str, ...]  # of ARCHITECTURES
    stem: str  # of STEMS
    shortcut: str  # their name of "shortcut"
    linear: str  # their name of "linear"
    normalisation: dict[str, Normalisation]  # by dataset; the first is also for datasets not listed
    image_size: int = 32
    dialect: Dialect | None = None  # where all names differ; shortcut and linear are this project's then

    def theirs(self, key: str) -> str:
        """The layout's name of the tensor that this project calls `key`."""
        if self.dialect:
            return self.dialect.theirs(key)
        key = re.sub(r"(?<=\.)shortcut(?=\.)", self.shortcut, key)
        return re.sub(r"^linear(?=\.)", self.linear, key)

    def ours(self, shapes: Shapes) -> Shapes:
        """Shapes by this project's names, where the layout has a dialect."""
        return {self.dialect.ours(name): shape for name, shape in shapes.items()} if self.dialect else shapes


OURS = Layout("ours", "this project", (*RESNETS, *THIN, *THIN_B), "cifar", "shortcut", "linear",
    {name: (cifar.mean, cifar.std) for name, cifar in CIFAR.items()})  # fmt: skip

LAYOUTS = {
    layout.name: layout
    for layout in (
        OURS,
        Layout("kuangliu", "kuangliu/pytorch-cifar", RESNETS, "cifar", "shortcut", "linear",
               {"cifar10": _KUANGLIU, "cifar100": _CIFAR100}),
        Layout("torchvision", "torchvision.models", RESNETS, "imagenet", "downsample", "fc",
               {"imagenet": _IMAGENET}, image_size=224),
        Layout("edadaltocg", "edadaltocg on the Hugging Face hub, timm without max-pool", RESNETS, "cifar",
               "downsample", "fc", {"cifar10": _KUANGLIU, "cifar100": _CIFAR100}),
        Layout("huyvnphan", "huyvnphan/PyTorch_CIFAR10, with max-pool", RESNETS, "cifar_pool",
               "downsample", "fc", {"cifar10": _CIFAR10}),
        Layout("akamaster", "akamaster/pytorch_resnet_cifar10", THIN, "cifar", "shortcut", "linear",
               {"cifar10": _IMAGENET}),
        Layout("chenyaofo", "chenyaofo/pytorch-cifar-models", THIN_B, "cifar", "downsample", "fc",
               {"cifar10": _KUANGLIU, "cifar100": _CHENYAOFO_100}),
        Layout("weiaicunzai", "weiaicunzai/pytorch-cifar100", RESNETS, "cifar", "shortcut", "linear",
               {"cifar100": _WEIAICUNZAI}, dialect=WEIAICUNZAI),
        Layout("transformers", "ResNetForImageClassification of transformers", RESNETS, "imagenet",
               "shortcut", "linear", {"imagenet": _IMAGENET}, image_size=224, dialect=TRANSFORMERS),
        Layout("openmmlab", "OpenMMLab's mmpretrain, ResNet", RESNETS, "imagenet", "shortcut", "linear",
               {"imagenet": _IMAGENET}, image_size=224, dialect=OPENMMLAB),
        Layout("openmmlab_cifar", "OpenMMLab's mmpretrain, ResNet_CIFAR", RESNETS, "cifar", "shortcut",
               "linear", {"cifar10": _OPENMMLAB_CIFAR}, dialect=OPENMMLAB),
    )
}  # fmt: skip


def named(name: str) -> Layout:
    """The layout of that name."""
    return LAYOUTS[choice("layout", name, LAYOUTS)]


def recognise(shapes: Shapes) -> list[Layout]:
    """All layouts that fit these names and shapes; `OURS` only if no other does.

    Raises:
      UserError: if they are not those of a network of this family; says why.
    """
    spoken = [one for one in LAYOUTS.values() if one.dialect and one.dialect.speaks(shapes)]
    possible = spoken or [one for one in LAYOUTS.values() if not one.dialect]
    shapes = possible[0].ours(shapes)
    _refuse_other_functions(shapes)
    archs = _architectures(shapes)
    if not any(f"{layout.linear}.weight" in shapes for layout in possible):
        raise UserError("it has no classifier (fc or linear): a backbone alone can't be converted")
    kernel = shapes["conv1.weight"][-1]
    found = [
        layout
        for layout in possible
        if f"{layout.linear}.weight" in shapes
        and all(name in ("", layout.shortcut) for name in _shortcut_names(shapes))
        and set(archs) & set(layout.archs)
        and kernel in ((3, 7) if layout is OURS else (STEMS[layout.stem].kernel,))
    ]
    others = [layout for layout in found if layout is not OURS]
    if not found:
        raise UserError(
            f"no layout known here names its tensors like this: the classifier is "
            f"{[k for k in shapes if k.endswith('.weight')][-1]}, the stem {kernel}×{kernel}; "
            f"known are {', '.join(LAYOUTS)}"
        )
    return others or found


def describe(shapes: Shapes, layout: Layout) -> ModelDescription:
    """The network that tensors with a layout's names belong to.

    Names and shapes do not say its class names, normalisation, image size and dataset: these are guesses, the
    layout's usual ones, and marked as such.

    Raises:
      UserError: if the layout has no such network.
    """
    shapes = layout.ours(shapes)
    _refuse_other_functions(shapes)
    archs = [arch for arch in _architectures(shapes) if arch in layout.archs]
    classifier = shapes.get(f"{layout.linear}.weight", ())
    if not archs or len(classifier) != 2:
        raise UserError(
            f"not a checkpoint in the layout {layout.name} ({layout.origin}), which has "
            f"{', '.join(layout.archs)} with a classifier named {layout.theirs('linear.weight')}"
        )
    stem = layout.stem
    if layout is OURS and shapes["conv1.weight"][-1] == STEMS["imagenet"].kernel:
        stem = "imagenet"
    return ModelDescription(
        arch=archs[0],
        stem=stem,
        width=shapes["conv1.weight"][0],
        **guesses.usual(layout.normalisation, classifier[0], layout.image_size),
    )


def check_export(layout: Layout, description: ModelDescription) -> None:
    """Raise a `UserError` if the layout's project would compute another function from the tensors."""
    if description.arch not in layout.archs:
        raise UserError(
            f"{layout.origin} has no {description.arch}: the layout {layout.name} is for "
            f"{', '.join(layout.archs)}"
        )
    if layout is not OURS and description.stem != layout.stem:
        raise UserError(
            f"{layout.origin} computes another function from these weights: its stem is {layout.stem}, "
            f"this network's {description.stem}; take another layout"
        )


def _architectures(shapes: Shapes) -> list[str]:
    """The names of the architectures with these blocks; a `UserError` if there is none."""
    stages: dict[int, set[int]] = {}
    for key in shapes:
        if match := re.match(r"layer(\d+)\.(\d+)\.", key):
            stages.setdefault(int(match[1]), set()).add(int(match[2]))
    depths = tuple(len(stages[number]) for number in sorted(stages))
    block = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    shortcut = "conv" if any(_shortcut_names(shapes)) else "pad"
    found = [
        name
        for name, a in ARCHITECTURES.items()
        if (a.block, a.depths, a.shortcut) == (block, depths, shortcut)
    ]
    if not found:
        raise UserError(
            f"no ResNet known here has stages of {depths} {block} blocks "
            f"{'with' if shortcut == 'conv' else 'without'} convolutions in the shortcuts; "
            f"known are {', '.join(ARCHITECTURES)}"
        )
    return found


def _shortcut_names(shapes: Shapes) -> set[str]:
    """What these tensors' names call the shortcuts; one name, or none where they have no tensors."""
    return {match[1] for key in shapes if (match := re.match(r"layer\d+\.\d+\.(shortcut|downsample)\.", key))}


def _refuse_other_functions(shapes: Shapes) -> None:
    """Raise a `UserError`, with the reason, for networks that are named alike but compute something else."""

    def dim(key: str, axis: int) -> int | None:
        shape = shapes.get(key, ())
        return shape[axis] if axis < len(shape) else None

    ranks = [len(shapes.get(f"{name}.weight", ())) for name in ("conv1", "layer1.0.conv1")]
    shortcuts = [key for key in shapes if re.match(r"layer\d+\.\d+\.(shortcut|downsample)\.", key)]
    names = [key.rpartition(".")[2] for key in shapes]
    reasons = {
        "its weights are reparametrised (weight_g and weight_v, or original0 and original1): remove that in "
        "its own project before saving": not {"weight_g", "original0"}.isdisjoint(names),
        "its batch norms keep no running statistics (track_running_stats=False), so it normalises by the "
        "batch in eval mode too": "bn1.weight" in shapes and "running_mean" not in names,
        "its stem is deep, several convolutions named conv1.0, conv1.3, …": "conv1.0.weight" in shapes
        or "conv1.0.0.weight" in shapes,
        f"its first convolution takes {dim('conv1.weight', 1)} channels, and pictures have 3 here": len(
            shapes.get("conv1.weight", ())
        )
        == 4
        and dim("conv1.weight", 1) != 3,
        "it has no conv1.weight and layer1.0.conv1.weight with four axes": ranks != [4, 4],
        "it is a pre-activation network (PreActResNet), whose batch norms stand before the convolutions": dim(
            "layer2.0.bn1.weight", 0
        )
        not in (None, dim("layer2.0.conv1.weight", 0)),
        "its shortcuts have no batch norm (kuangliu/pytorch-cifar of 2017)": bool(shortcuts)
        and not any(re.search(r"(shortcut|downsample)\.1\.", key) for key in shortcuts),
        "its convolutions are grouped (ResNeXt)": "layer1.0.conv2.weight" in shapes
        and dim("layer1.0.conv2.weight", 1) != dim("layer1.0.conv1.weight", 0),
        "it has squeeze-and-excitation": any(re.search(r"\.(se|fc1|fc2)\.", key) for key in shapes),
        "its convolutions have biases": any(re.search(r"conv\d\.bias$", key) for key in shapes),
        "its bottlenecks are wide (Wide ResNet)": "layer1.0.conv3.weight" in shapes
        and dim("layer1.0.conv1.weight", 0) != dim("conv1.weight", 0),
    }
    for reason, applies in reasons.items():
        if applies:
            raise UserError(f"not a ResNet that is known here: {reason}")
    _refuse_other_heads(shapes)


def _refuse_other_heads(shapes: Shapes) -> None:
    """Raise a `UserError` for linear layers behind the stages that are not one classifier."""
    layers = [key.removesuffix(".weight") for key, shape in shapes.items()
              if key.endswith(".weight") and len(shape) == 2 and not re.match(r"layer\d", key)]  # fmt: skip
    if len(layers) < 2:
        return
    heads = {layer.partition(".")[0] for layer in layers}
    what = "several layers" if len(heads) == 1 else "several heads, and no one of them is the classifier"
    raise UserError(
        f"not a ResNet that is known here: what follows its stages is {what} ({', '.join(layers)})"
    )
