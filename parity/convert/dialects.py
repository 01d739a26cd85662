"""Projects that name all tensors in another way: rules from this project's names to theirs, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

# a pattern of a name's beginning, and what stands there instead; the first that fits is the one
Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


class Dialect(NamedTuple):
    """How one project names tensors.

    A network is found in a file by the blocks' names, so a dialect's blocks are in `wrappers.BLOCK`, too.
    """

    to_theirs: Rules
    to_ours: Rules

    def theirs(self, name: str) -> str:
        """Their name of a tensor of this project."""
        return _renamed(name, self.to_theirs)

    def ours(self, name: str) -> str:
        """This project's name of a tensor of theirs."""
        return _renamed(name, self.to_ours)

    def speaks(self, names: Iterable[str]) -> bool:
        """Whether names are in this dialect: some are a block's by its rules, and not by this project's."""
        return any(
            _OURS.match(self.ours(name)) and self.theirs(self.ours(name)) == name and not _OURS.match(name)
            for name in names
        )


_OURS = re.compile(r"layer\d+\.\d+\.(conv|bn)\d\.")


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return name


def _next(number: str, step: int = 1) -> int:
    return int(number) + step


WEIAICUNZAI = Dialect(
    to_theirs=(
        (r"conv1\.", "conv1.0."),
        (r"bn1\.", "conv1.1."),
        (
            r"layer(\d+)\.(\d+)\.(conv|bn)(\d)\.",
            lambda m: (
                f"conv{_next(m[1])}_x.{m[2]}.residual_function."
                f"{3 * int(m[4]) - (3 if m[3] == 'conv' else 2)}."
            ),
        ),
        (r"layer(\d+)\.(\d+)\.shortcut\.", lambda m: f"conv{_next(m[1])}_x.{m[2]}.shortcut."),
        (r"linear\.", "fc."),
    ),
    to_ours=(
        (r"conv1\.0\.", "conv1."),
        (r"conv1\.1\.", "bn1."),
        (
            r"conv(\d+)_x\.(\d+)\.residual_function\.([013467])\.",
            lambda m: f"layer{_next(m[1], -1)}.{m[2]}.{('conv', 'bn')[int(m[3]) % 3]}{_next(m[3], 3) // 3}.",
        ),
        (r"conv(\d+)_x\.(\d+)\.shortcut\.", lambda m: f"layer{_next(m[1], -1)}.{m[2]}.shortcut."),
        (r"fc\.", "linear."),
    ),
)

_KINDS = {"conv": "convolution", "bn": "normalization"}
TRANSFORMERS = Dialect(
    to_theirs=(
        (r"conv1\.", "resnet.embedder.embedder.convolution."),
        (r"bn1\.", "resnet.embedder.embedder.normalization."),
        (
            r"layer(\d+)\.(\d+)\.(conv|bn)(\d)\.",
            lambda m: (
                f"resnet.encoder.stages.{_next(m[1], -1)}.layers.{m[2]}.layer."
                f"{_next(m[4], -1)}.{_KINDS[m[3]]}."
            ),
        ),
        (
            r"layer(\d+)\.(\d+)\.shortcut\.([01])\.",
            lambda m: (
                f"resnet.encoder.stages.{_next(m[1], -1)}.layers.{m[2]}.shortcut."
                f"{('convolution', 'normalization')[int(m[3])]}."
            ),
        ),
        (r"linear\.", "classifier.1."),
    ),
    to_ours=(
        (r"resnet\.embedder\.embedder\.convolution\.", "conv1."),
        (r"resnet\.embedder\.embedder\.normalization\.", "bn1."),
        (
            r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d)\.(conv|norm)(olution|alization)\.",
            lambda m: f"layer{_next(m[1])}.{m[2]}.{'conv' if m[4] == 'conv' else 'bn'}{_next(m[3])}.",
        ),
        (
            r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(conv|norm)(olution|alization)\.",
            lambda m: f"layer{_next(m[1])}.{m[2]}.shortcut.{int(m[3] == 'norm')}.",
        ),
        (r"classifier\.1\.", "linear."),
    ),
)

OPENMMLAB = Dialect(
    to_theirs=(
        (r"linear\.", "head.fc."),
        (r"(layer\d+\.\d+)\.shortcut\.", r"backbone.\1.downsample."),
        ("", "backbone."),
    ),
    to_ours=(
        (r"head\.fc\.", "linear."),
        (r"backbone\.(layer\d+\.\d+)\.downsample\.", r"\1.shortcut."),
        (r"backbone\.", ""),
    ),
)
