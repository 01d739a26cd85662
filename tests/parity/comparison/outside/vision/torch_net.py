"""A small network for images: a convolutional stem, a residual block, a mixer, and three results."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, and what they started from added."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(x + y)


class Mlp(nn.Module):
    """Out to `hidden` features and back."""

    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class MixerBlock(nn.Module):
    """An MLP over the positions, then one over the channels, of (batch, positions, channels)."""

    def __init__(self, tokens: int, channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.token_mlp = Mlp(tokens, 24)
        self.norm2 = nn.LayerNorm(channels)
        self.channel_mlp = Mlp(channels, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x).transpose(1, 2)
        x = x + self.token_mlp(y).transpose(1, 2)
        return x + self.channel_mlp(self.norm2(x))


class VisionNet(nn.Module):
    """Images (batch, 3, 16, 20) to classes, features and a map of half their size."""

    def __init__(self, classes: int = 10):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 16, 3, padding=1, groups=8), nn.GroupNorm(4, 16), nn.SiLU()
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.block = ResidualBlock(16)
        self.mixer = MixerBlock(4 * 5, 16)
        self.up = nn.ConvTranspose2d(16, 6, 3, stride=2, padding=1, output_padding=1)
        self.squeeze = nn.AvgPool2d(3, stride=2, padding=1)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 2 * 3, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, classes)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.depthwise(self.stem(images))
        x = self.block(self.pool(x))
        b, c, h, w = x.shape
        x = self.mixer(x.flatten(2).transpose(1, 2))
        x = x.transpose(1, 2).reshape(b, c, h, w)
        features = self.squeeze(x)
        return {
            "features": features,
            "logits": self.head(features),
            "map": torch.tanh(self.up(x)),
        }
