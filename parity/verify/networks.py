"""The two networks of a case as the two sides of a comparison, each as its trainer builds it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from flax.traverse_util import flatten_dict
from torch import nn

from flax_resnet import steps
from flax_resnet.train_state import DTYPES
from parity.arrays import split
from parity.comparison.pair import Pair
from parity.comparison.sides.nnx_side import NnxSide, dotted
from parity.comparison.sides.torch_side import TorchSide
from parity.verify.case import Case
from torch_ref import steps as torch_steps

PRECISIONS = ("f64", "f32", "bf16")
SMOOTHING = 0.1  # of labels


class TrainedFlax(NnxSide):
    """Networks that were built for each precision, and run as they are.

    A comparison of strangers' networks makes a float64 program of one that was written for float32, without
    its casts. This project has a float64 network of its own, whose casts are to be looked at. In bfloat16
    parameters and statistics are float32.

    Args:
      networks: by precision.
      loss: logits → a scalar.
    """

    described_in = "f64"

    def __init__(self, networks: Mapping[str, nnx.Module], loss: Callable[[Any], Any] | None = None):
        super().__init__(networks["f32"], None, None, loss)
        self._networks = {precision: nnx.split(network) for precision, network in networks.items()}

    def dtype(self, precision: str) -> Any:
        """Of tensors and inputs."""
        return jnp.dtype(DTYPES[precision][1])

    def adapted(self, fn: Callable[..., Any], precision: str) -> Callable[..., Any]:
        """The program as it is."""
        return fn

    def network(self, precision: str) -> tuple[Any, Any]:
        """The graph and the state of the one that runs in a precision."""
        return self._networks[precision]

    def set_dtype(self, module: Any, precision: str) -> None:
        """Nothing: the network has its dtype."""


def pair(case: Case, level: int, precisions: Sequence[str], count: int, size: int) -> Pair:
    """Both networks with images.

    Args:
      case: the networks.
      level: 2 for eval mode, 3 and 4 for train mode; in 4 gradients are of the trainers' loss.
      precisions: of "f64", "f32" and "bf16".
      count: how many images.
      size: their height and width.
    """
    networks = {precision: case.flax(precision).network for precision in PRECISIONS}
    losses = _losses(case.labels(count)) if level == 4 else None
    images = case.images(count, size).astype(np.float32)
    return Pair(
        TorchSide(case.torch("f64").network, loss=losses and losses[0], autocast=True),
        TrainedFlax(networks, losses and losses[1]),
        inputs=[images.transpose(0, 3, 1, 2)],
        weights=to_flax,
        modes=("eval",) if level == 2 else ("train",),
        precisions=precisions,
        loss=losses,
        seed=case.seed,
    )


def hard_batch_norm(case: Case, precision: str) -> Pair:
    """The first batch norm with constant channels, variances about eps, and means far from zero.

    Networks' own activations are not like this. A variance taken in one pass, or a gradient without eps,
    shows here alone.
    """
    path = next(name.removesuffix(".running_mean") for name in case.model if name.endswith(".running_mean"))
    theirs = case.torch("f64").network.get_submodule(path)
    assert isinstance(theirs, nn.BatchNorm2d)
    rng = np.random.default_rng(case.seed)
    deviations = np.sqrt(theirs.eps) * 10.0 ** rng.uniform(-2, 2, theirs.num_features)
    deviations[0] = 0
    far = 1000 if precision == "f64" else 4  # deviations; in float32 a thousand leave too few digits
    means = far * np.maximum(deviations, np.sqrt(theirs.eps))
    x = means + deviations * rng.normal(size=(2, 3, 3, theirs.num_features))
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    return Pair(
        TorchSide(nn.Sequential(OrderedDict({path: theirs}))),
        TrainedFlax({p: nnx.Sequential(getattr(case.flax(p).network, path)) for p in PRECISIONS}),
        inputs=[x.transpose(0, 3, 1, 2)],
        weights={f"layers.0.{a}": (f"{path}.{b}", lambda t: t) for a, b in names.items()},
        modes=("train",),
        precisions=(precision,),
        seed=case.seed,
    )


def _losses(labels: np.ndarray) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """The trainers' losses of logits."""
    return (
        lambda logits: torch_steps.cross_entropy(logits, torch.from_numpy(labels), SMOOTHING),
        lambda logits: steps.cross_entropy(logits, jnp.asarray(labels.astype(np.int32)), SMOOTHING),
    )


def to_flax(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict as Flax's tensors by dotted path: what a comparison takes for a converter."""
    tree = split(state)
    return {
        dotted(path): array
        for group in ("params", "batch_stats")
        for path, array in flatten_dict(tree[group]).items()
    }
