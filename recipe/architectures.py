"""What a ResNet is made of, as data: both model files build their layers from these tables."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, NamedTuple

from recipe.system import json_values
from recipe.system.errors import UserError, choice
from recipe.system.json_values import Rule, integer, items, number, text
from recipe.system.terminal import shown


class Architecture(NamedTuple):
    """Depth and kind of one published ResNet."""

    block: str  # "basic" (two 3×3 convolutions) or "bottleneck" (1×1, 3×3, 1×1 with 4× the channels)
    depths: tuple[int, ...]  # blocks per stage; every stage but the first halves the resolution
    width: int  # channels of the first stage; every later stage doubles them
    shortcut: str  # "conv" (1×1 convolution and batch norm) or "pad" (option A: no parameters)


class Stem(NamedTuple):
    """The first convolution, and whether a 3×3 max-pool of stride 2 follows it."""

    kernel: int
    stride: int
    max_pool: bool


# He et al. 2015, tables 1 and 6; the stride of a bottleneck is in its 3×3, as in torchvision.
ARCHITECTURES = {
    "resnet18": Architecture("basic", (2, 2, 2, 2), 64, "conv"),
    "resnet34": Architecture("basic", (3, 4, 6, 3), 64, "conv"),
    "resnet50": Architecture("bottleneck", (3, 4, 6, 3), 64, "conv"),
    "resnet101": Architecture("bottleneck", (3, 4, 23, 3), 64, "conv"),
    "resnet152": Architecture("bottleneck", (3, 8, 36, 3), 64, "conv"),
    "resnet20": Architecture("basic", (3, 3, 3), 16, "pad"),
    "resnet32": Architecture("basic", (5, 5, 5), 16, "pad"),
    "resnet44": Architecture("basic", (7, 7, 7), 16, "pad"),
    "resnet56": Architecture("basic", (9, 9, 9), 16, "pad"),
    "resnet110": Architecture("basic", (18, 18, 18), 16, "pad"),
    # the thin ones with a convolution in the shortcut, option B of the paper
    "resnet20b": Architecture("basic", (3, 3, 3), 16, "conv"),
    "resnet32b": Architecture("basic", (5, 5, 5), 16, "conv"),
    "resnet44b": Architecture("basic", (7, 7, 7), 16, "conv"),
    "resnet56b": Architecture("basic", (9, 9, 9), 16, "conv"),
}
STEMS = {
    "cifar": Stem(kernel=3, stride=1, max_pool=False),
    "cifar_pool": Stem(kernel=3, stride=1, max_pool=True),
    "imagenet": Stem(kernel=7, stride=2, max_pool=True),
}
EXPANSION = {"basic": 1, "bottleneck": 4}
MOST_CHANNELS = 4096  # of the first stage; published networks have 512 at most
MOST_PIXELS = 1024  # of a side; ResNets have been trained on 600 at most
GUESSABLE = (
    "class_names",
    "dataset",
    "mean",
    "std",
    "image_size",
)  # what names and shapes of tensors don't say

# what a network's outputs are, and in words why it can't be asked for one class
OUTPUTS = {
    "classes": "",
    "labels": "each output says yes or no to a label of its own (multi-label)",
    "numbers": "its outputs are numbers that were fitted (regression)",
}


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """All that is needed to rebuild a network and to use it; saved as JSON beside its weights."""

    arch: str  # a key of ARCHITECTURES
    stem: str  # a key of STEMS
    width: int  # channels of the first stage
    class_names: tuple[str, ...]  # in the order of the logits
    mean: tuple[float, ...]  # per RGB channel of pixel/255: subtracted from the input …
    std: tuple[float, ...]  # … which is then divided by this
    image_size: int  # height and width in pixels that it was trained on
    dataset: str  # the name of the data that it was trained on
    guessed: tuple[str, ...] = ()  # of GUESSABLE: fields that are a guess, since no file said what they are
    outputs: str = "classes"  # a key of OUTPUTS: what its outputs are

    def __post_init__(self) -> None:
        json_values.check(vars(self), _RULES)
        choice("architecture", self.arch, ARCHITECTURES)
        choice("stem", self.stem, STEMS)
        choice("kind of outputs", self.outputs, OUTPUTS)
        for name in self.guessed:
            choice("guessed field", name, GUESSABLE)
        if min(self.std) <= 0:
            raise UserError(f"std must be three positive numbers, not {self.std}")
        if self.architecture.shortcut == "pad" and self.width % 2:
            raise UserError(
                f"{self.arch} pads channels on both sides: its width must be even, not {self.width}"
            )

    @property
    def architecture(self) -> Architecture:
        """The table's row for this network."""
        return ARCHITECTURES[self.arch]

    def smallest_map(self, image_size: int) -> int:
        """Height and width of the last stage's feature maps, for images of so many pixels a side."""
        stem = STEMS[self.stem]
        halvings = [stem.stride, 2 if stem.max_pool else 1, *[2] * (len(self.architecture.depths) - 1)]
        return functools.reduce(lambda size, stride: -(-size // stride), halvings, image_size)

    @property
    def num_classes(self) -> int:
        """The number of logits."""
        return len(self.class_names)

    @property
    def guess_notice(self) -> str:
        """Which fields are a guess, and what corrects it; "" if none is."""
        if not self.guessed:
            return ""
        names = ", ".join(name.replace("_", " ") for name in self.guessed)
        flags = ", ".join("--" + name.replace("_", "-") for name in self.guessed)
        return f"{names}: no file says what they are; python -m parity convert takes {flags}"

    def to_json(self) -> str:
        """Return the description as a JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelDescription:
        """Rebuild a description from `to_json`; `UserError` when the text is not one."""
        try:
            fields: Any = json_values.parse(text)
            json_values.check(fields, _RULES, optional=("guessed", "outputs"))  # absent in older files
            known = [field.name for field in dataclasses.fields(cls)]
            if unknown := [name for name in fields if name not in known]:
                raise UserError(f"it has a field {shown(unknown[0])}, which is not known here")
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**values)
        except (ValueError, UserError) as error:
            raise UserError(f"not a model description: {error}") from error


def _three(value: Any) -> str:
    return items(number, least=3, most=3)(value) and "three finite numbers"


_RULES: dict[str, Rule] = {
    "arch": text, "stem": text, "width": integer(1, MOST_CHANNELS), "class_names": items(text, least=1),
    "mean": _three, "std": _three, "image_size": integer(1, MOST_PIXELS), "dataset": text,
    "guessed": items(text), "outputs": text,
}  # fmt: skip
