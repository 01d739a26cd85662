"""Networks to check: a checkpoint's, or fresh ones with random weights; and real images for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from parity.convert.files import read
from parity.tensors import to_numpy
from parity.verify.case import Case
from recipe import data as datasets
from recipe.architectures import ARCHITECTURES, ModelDescription
from recipe.data import Dataset
from recipe.system.errors import UserError, choice
from recipe.training import checkpoints
from torch_ref.model import ResNet


def from_checkpoint(path: Path, layout: str | None, weights: str | None, **settings: Any) -> Case:
    """A case with the weights of a checkpoint, or of a workdir's best one, whatever project it comes from.

    `settings` are seed, quick and cpu_kernels of a `Case`.
    """
    checkpoint = read(checkpoints.find(str(path), ""), layout, weights)
    return Case(checkpoint.description, checkpoint.model, **settings)


def describe(arch: str, stem: str, width: int) -> ModelDescription:
    """A network for ten classes of 32×32 images."""
    choice("architecture", arch, ARCHITECTURES)
    return ModelDescription(
        arch=arch, stem=stem, width=width or ARCHITECTURES[arch].width,
        class_names=tuple(map(str, range(10))), mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26),
        image_size=32, dataset="random",
    )  # fmt: skip


def from_description(description: ModelDescription, *, seed: int, **settings: Any) -> Case:
    """A case with fresh random weights, and statistics, scales and biases away from 0 and 1.

    `settings` are quick and cpu_kernels of a `Case`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = disturb(ResNet(description), seed)
    return Case(description, {n: to_numpy(t) for n, t in model.state_dict().items()}, seed, **settings)


def disturb(model: nn.Module, seed: int) -> nn.Module:
    """Draw the batch norms' scales, biases and statistics, which a fresh network has at 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def real_data(description: ModelDescription) -> Dataset:
    """CIFAR-10 or CIFAR-100 if it is prepared and the network is for it, else scikit-learn's digits."""
    if description.dataset in ("cifar10", "cifar100", "random"):
        name = "cifar100" if description.dataset == "cifar100" else "cifar10"
        try:
            return datasets.load(name, "", download=False)
        except UserError:
            pass
    return datasets.load("digits")
