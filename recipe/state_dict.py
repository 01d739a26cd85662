"""The names and shapes of a network's tensors in PyTorch's state dict, without building the network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recipe.architectures import EXPANSION, STEMS, ModelDescription

Shape = tuple[int, ...]
Arrays = dict[str, np.ndarray]  # the tensors by these names, in PyTorch's order of axes
COUNTER = "num_batches_tracked"  # a batch norm's count of training steps; nothing here computes with it


def is_param(name: str) -> bool:
    """Whether a name in a state dict is a parameter's, not a statistic's or counter's."""
    return name.rpartition(".")[2] in ("weight", "bias")


def shapes(description: ModelDescription) -> dict[str, Shape]:
    """Names and shapes of a network's state dict, in PyTorch's order, batch counters included."""
    return dict(_network(description))


def _network(description: ModelDescription) -> Iterator[tuple[str, Shape]]:
    block, depths, _, shortcut = description.architecture
    channels, kernel = description.width, STEMS[description.stem].kernel
    yield "conv1.weight", (channels, 3, kernel, kernel)
    yield from _batch_norm("bn1", channels)
    for i, depth in enumerate(depths):
        width = description.width * 2**i
        for j in range(depth):
            name, outputs = f"layer{i + 1}.{j}", EXPANSION[block] * width
            convolutions = (
                [(width, channels, 3), (width, width, 3)]
                if block == "basic"
                else [(width, channels, 1), (width, width, 3), (outputs, width, 1)]
            )
            for number, (out, into, size) in enumerate(convolutions, 1):
                yield f"{name}.conv{number}.weight", (out, into, size, size)
                yield from _batch_norm(f"{name}.bn{number}", out)
            if shortcut == "conv" and (channels != outputs or (i > 0 and j == 0)):
                yield f"{name}.shortcut.0.weight", (outputs, channels, 1, 1)
                yield from _batch_norm(f"{name}.shortcut.1", outputs)
            channels = outputs
    yield "linear.weight", (description.num_classes, channels)
    yield "linear.bias", (description.num_classes,)


def _batch_norm(name: str, channels: int) -> Iterator[tuple[str, Shape]]:
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{leaf}", (channels,)
    yield f"{name}.{COUNTER}", ()
