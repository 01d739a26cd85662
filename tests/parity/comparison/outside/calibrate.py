"""How near equal pairs come to their budgets: `python -m tests.parity.comparison.outside.calibrate`.

Prints the largest error over its budget by what is compared, in each precision, and every place beyond 1. It
is run by hand whenever a budget changes; docs/compare.md has what it printed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flax import nnx
from torch import Tensor, nn

import parity
from docs.first_pair import Port
from parity.comparison.findings import Place
from tests.parity.comparison import small
from tests.parity.comparison.outside.pairs import load
from tests.parity.comparison.pairs import vit

PRECISIONS = ("f64", "f32", "bf16")
NOT_IN_BF16 = ("text",)  # its rotary tables are float32, which PyTorch's attention refuses beside bfloat16
Pair = dict[str, Any]  # arguments of `parity.compare`


class TorchNorms(nn.Module):
    """Batch norms behind convolutions, and pools."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.out = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, 8, 8) → (batch, 5)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.out(self.bn2(self.conv2(x)).relu_().mean((2, 3)))


class FlaxNorms(nnx.Module):
    """The same, with Flax's own batch norm."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.conv1 = nnx.Conv(3, 8, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.conv2 = nnx.Conv(8, 8, (3, 3), 2, padding=1, use_bias=False, rngs=rngs)
        self.bn1, self.bn2 = (nnx.BatchNorm(8, momentum=0.9, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.out = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x: Any, train: bool) -> Any:
        """(batch, 8, 8, 3) → (batch, 5)."""
        x = nnx.relu(self.bn1(self.conv1(x), use_running_average=not train))
        return self.out(nnx.relu(self.bn2(self.conv2(x), use_running_average=not train)).mean((1, 2)))


class TorchWords(nn.Module):
    """An embedding, a convolution along the words, a softmax over them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(30, 12), nn.Conv1d(12, 16, 3, padding=1)
        self.score, self.out = nn.Linear(16, 1), nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        """(batch, length) → (batch, 4)."""
        x = torch.tanh(self.conv(self.embed(words).transpose(1, 2)).transpose(1, 2))
        return self.out((self.score(x).softmax(1) * x).sum(1)).log_softmax(-1)


class FlaxWords(nnx.Module):
    """The same."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed, self.conv = nnx.Embed(30, 12, rngs=rngs), nnx.Conv(12, 16, (3,), padding=1, rngs=rngs)
        self.score, self.out = nnx.Linear(16, 1, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, words: Any) -> Any:
        """(batch, length) → (batch, 4)."""
        x = nnx.tanh(self.conv(self.embed(words)))
        return nnx.log_softmax(self.out((nnx.softmax(self.score(x), 1) * x).sum(1)))


def _images(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, 3, size, size)).astype(np.float32)


def _first(seed: int) -> Pair:
    torch_model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip
    return {"torch_model": torch_model, "flax_model": Port(nnx.Rngs(0)), "inputs": [_images(seed, 16)]}


def _norms(seed: int) -> Pair:
    return {
        "torch_model": TorchNorms(), "flax_model": FlaxNorms(), "inputs": [_images(seed, 8)],
        "flax_call": lambda m, x, train: m(x, train=train),
        "allow": [("*.running_var", "Flax keeps the biased variance")],
    }  # fmt: skip


def _words(seed: int) -> Pair:
    words = np.random.default_rng(seed).integers(0, 30, (4, 7))
    return {"torch_model": TorchWords(), "flax_model": FlaxWords(), "inputs": [words]}


def _mlp(seed: int) -> Pair:
    given = [np.random.default_rng(seed).normal(size=(5, 8)).astype(np.float32)]
    return {"torch_model": small.TorchMLP(), "flax_model": small.linen_mlp(), "inputs": given}


def _vit(seed: int) -> Pair:
    pair = vit.mended()
    found = {f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)}
    return {**found, "torch_model": vit.TorchViT(vit.Size()), "inputs": [_images(seed, 8)]}


PAIRS: dict[str, Callable[[int], Pair]] = {
    "vision": lambda seed: load("vision", seed=seed),
    "text": lambda seed: load("text", seed=seed),
    "recurrent": lambda seed: load("recurrent", seed=seed),
    "a vision transformer": _vit,
    "group norm": _first,
    "batch norm": _norms,
    "words": _words,
    "linen": _mlp,
}


def main() -> None:
    """Compare all pairs, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--pairs", default="")
    args = parser.parse_args()
    worst: dict[tuple[str, str], float] = {}
    for name, make in PAIRS.items():
        if args.pairs and name not in args.pairs.split(","):
            continue
        for seed in range(args.seeds):
            torch.manual_seed(seed)
            precisions = PRECISIONS[:2] if name in NOT_IN_BF16 else PRECISIONS
            settings = {**make(seed), "precisions": precisions, "modes": ("eval", "train"), "seed": seed}
            report = parity.compare(**settings)
            for one in report.places:
                if one.reason or one.precision not in PRECISIONS:
                    continue
                key = _kind(one), one.precision
                worst[key] = max(worst.get(key, 0.0), one.ratio)
                if one.ratio > 1:
                    print(f"{name}, seed {seed}: {one.what} {one.where}, {one.precision}: {one.ratio:.2f}")
            print(f"{name}, seed {seed}: {'same' if report.passed else 'NOT the same'}", flush=True)
    print("| what | " + " | ".join(PRECISIONS) + " |\n|---" + "|--:" * len(PRECISIONS) + "|")
    for kind in sorted({kind for kind, _ in worst}):
        print(f"| {kind} | " + " | ".join(f"{worst.get((kind, p), 0.0):.2f}" for p in PRECISIONS) + " |")


def _kind(one: Place) -> str:
    """What is compared, of which kind of module."""
    return f"{one.what}: {one.kind}" if one.what.startswith("layer") else one.what


if __name__ == "__main__":
    main()
