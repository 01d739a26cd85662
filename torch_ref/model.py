"""ResNet for small images in PyTorch. Lay it beside flax_resnet/model.py: it is the same network.

Images are NCHW here and NHWC there. Attribute names are the parameter names of both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe.architectures import EXPANSION, STEMS, ModelDescription


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A square convolution, padded alike on all sides."""
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


class Shortcut(nn.Module):
    """The parameter-free shortcut (option A): every second pixel, new channels filled with zeros."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.stride = stride
        self.pad = (outputs - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ⌈H/stride⌉, ⌈W/stride⌉)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))


def make_shortcut(kind: str, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """The layers between a block's input and its sum: none where the shape stays the same."""
    if inputs == outputs and stride == 1:
        return nn.Sequential()
    if kind == "pad":
        return nn.Sequential(Shortcut(inputs, outputs, stride))
    return nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them."""

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str):
        super().__init__()
        self.conv1 = conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = make_shortcut(shortcut, inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, width, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        x = self.shortcut(x)
        return F.relu(y + x)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution, the last with four times the channels, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, shortcut: str):
        super().__init__()
        outputs = EXPANSION["bottleneck"] * width
        self.conv1 = conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = conv(width, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = make_shortcut(shortcut, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 4·width, ⌈H/stride⌉, ⌈W/stride⌉)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        x = self.shortcut(x)
        return F.relu(y + x)


BLOCKS = {"basic": ResBlock, "bottleneck": Bottleneck}


class ResNet(nn.Module):
    """Stem, stages of residual blocks, global average pool, linear classifier."""

    def __init__(self, description: ModelDescription):
        super().__init__()
        block, depths, _, shortcut = description.architecture
        stem = STEMS[description.stem]
        channels = description.width
        self.max_pool = stem.max_pool
        self.conv1 = conv(3, channels, stem.kernel, stem.stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.stages = [f"layer{i + 1}" for i in range(len(depths))]
        for i, depth in enumerate(depths):
            width = description.width * 2**i
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(BLOCKS[block](channels, width, stride, shortcut))
                channels = EXPANSION[block] * width
            setattr(self, self.stages[i], nn.Sequential(*blocks))
        self.linear = nn.Linear(channels, description.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map standardised images (N, 3, H, W) to logits (N, classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        if self.max_pool:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        x = torch.mean(x, dim=(2, 3))
        return self.linear(x)
