"""Projects that name all modules in another way than this one: templates of their names, and the way back."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

_IN_BLOCK = re.compile(r"layer(?P<stage>\d+)\.(?P<block>\d+)\.(?P<kind>conv|bn|shortcut\.)(?P<number>\d)")
_STAGES, _BLOCKS = range(1, 5), range(36)  # the largest network, ResNet152, has so many
_PARTS = (*(f"{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)), "shortcut.0", "shortcut.1")


class Dialect(NamedTuple):
    """How one project names modules.

    In the names of a block's modules, {stage}, {block} and {number} count from 0, {stage_1} and {number_1}
    from 1, {stage_2} from 2; {conv} and {bn} are places in a sequence of convolution, batch norm and ReLU.

    A network is found in a file by the blocks' names, so a dialect's blocks are in `wrappers.BLOCK`, too.
    """

    conv1: str
    bn1: str
    linear: str
    conv: str  # of a block
    bn: str
    shortcut: tuple[str, str]  # its convolution and its batch norm

    def theirs(self, name: str) -> str:
        """Their name of a tensor of this project."""
        module, _, leaf = name.rpartition(".")
        return f"{self._module(module)}.{leaf}"

    def ours(self, name: str) -> str:
        """This project's name of a tensor of theirs; what is none of a network's stays as it is."""
        module, _, leaf = name.rpartition(".")
        return f"{_ours(self).get(module, module)}.{leaf}"

    def speaks(self, names: Iterable[str]) -> bool:
        """Whether names are in this dialect: some are a block's."""
        modules = _ours(self)
        return any(modules.get(name.rpartition(".")[0], "").startswith("layer") for name in names)

    def _module(self, name: str) -> str:
        match = _IN_BLOCK.fullmatch(name)
        if not match:
            return {"conv1": self.conv1, "bn1": self.bn1, "linear": self.linear}.get(name, name)
        kind, number = match["kind"], int(match["number"])
        template = {"conv": self.conv, "bn": self.bn}.get(kind) or self.shortcut[number]
        return template.format(
            stage=int(match["stage"]) - 1, stage_1=int(match["stage"]), stage_2=int(match["stage"]) + 1,
            block=match["block"], number=number - 1, number_1=number, conv=3 * number - 3, bn=3 * number - 2,
        )  # fmt: skip


@functools.cache
def _ours(dialect: Dialect) -> dict[str, str]:
    """This project's name of each module of theirs, for all that a network may have."""
    blocks = (f"layer{stage}.{block}.{part}" for stage in _STAGES for block in _BLOCKS for part in _PARTS)
    return {dialect._module(name): name for name in ("conv1", "bn1", "linear", *blocks)}


WEIAICUNZAI = Dialect(
    conv1="conv1.0", bn1="conv1.1", linear="fc",
    conv="conv{stage_2}_x.{block}.residual_function.{conv}",
    bn="conv{stage_2}_x.{block}.residual_function.{bn}",
    shortcut=("conv{stage_2}_x.{block}.shortcut.0", "conv{stage_2}_x.{block}.shortcut.1"),
)  # fmt: skip

_BLOCK = "resnet.encoder.stages.{stage}.layers.{block}"
TRANSFORMERS = Dialect(
    conv1="resnet.embedder.embedder.convolution", bn1="resnet.embedder.embedder.normalization",
    linear="classifier.1",
    conv=f"{_BLOCK}.layer.{{number}}.convolution", bn=f"{_BLOCK}.layer.{{number}}.normalization",
    shortcut=(f"{_BLOCK}.shortcut.convolution", f"{_BLOCK}.shortcut.normalization"),
)  # fmt: skip

_LAYER = "backbone.layer{stage_1}.{block}"
OPENMMLAB = Dialect(
    conv1="backbone.conv1", bn1="backbone.bn1", linear="head.fc",
    conv=f"{_LAYER}.conv{{number_1}}", bn=f"{_LAYER}.bn{{number_1}}",
    shortcut=(f"{_LAYER}.downsample.0", f"{_LAYER}.downsample.1"),
)  # fmt: skip
