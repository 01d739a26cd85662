"""Pairs of networks as other people write them: other names, other modules, other layouts, and yet the same.

Each folder beside this file holds a pair: `torch_net.py`, `flax_net.py`, and `convert.py`, which moves the
weights; and `mutants.py`, mistakes in these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from flax import nnx

from tests.parity.comparison.outside.kinds import Mutant, Rewriting

FOLDER = Path(__file__).parent
FILES = ("torch_net.py", "flax_net.py", "convert.py")


@dataclasses.dataclass(frozen=True)
class Sources:
    """The modules of a pair's files."""

    torch_net: Any
    flax_net: Any
    convert: Any


def vision(sources: Sources, seed: int = 0) -> dict[str, Any]:
    """Images brighter than they have contrast; batch statistics; NCHW beside NHWC."""
    rng = np.random.default_rng(seed)
    images = (0.6 + 0.12 * rng.normal(size=(4, 3, 16, 20))).astype(np.float32)
    return {
        "torch_model": _seeded(seed, sources.torch_net.VisionNet),
        "flax_model": sources.flax_net.VisionNet(rngs=nnx.Rngs(seed)),
        "inputs": (images,),
        "flax_inputs": lambda images: (np.moveaxis(images, 1, -1),),
        "torch_call": lambda model, images, train: model(images),
        "flax_call": lambda model, images, train: model(images, train=train),
        "weights": sources.convert.convert,
    }


def text(sources: Sources, seed: int = 0) -> dict[str, Any]:
    """Tokens, the mask of what is none, and an embedding that the logits share."""
    rng = np.random.default_rng(seed)
    lengths = np.array([9, 4, 7])
    padding = np.arange(9) >= lengths[:, None]
    tokens = np.where(padding, 0, rng.integers(1, 40, padding.shape))
    return {
        "torch_model": _seeded(seed, sources.torch_net.TextNet),
        "flax_model": sources.flax_net.TextNet(rngs=nnx.Rngs(seed)),
        "inputs": (tokens, padding),
        "torch_call": lambda model, tokens, padding, train: model(tokens, padding),
        "flax_call": lambda model, tokens, padding, train: _mode(model, train)(tokens, padding),
        "weights": sources.convert.convert,
    }


def recurrent(sources: Sources, seed: int = 0) -> dict[str, Any]:
    """Series of several lengths, with whole numbers beside them; results as a tuple."""
    rng = np.random.default_rng(seed)
    series = rng.normal(size=(4, 6, 5)).astype(np.float32)
    weekdays = (rng.integers(0, 7, (4, 1)) + np.arange(6)) % 7
    return {
        "torch_model": _seeded(seed, sources.torch_net.Forecaster),
        "flax_model": sources.flax_net.Forecaster(rngs=nnx.Rngs(seed)),
        "inputs": (series, weekdays, np.array([6, 2, 5, 4])),
        "torch_call": lambda model, *inputs, train: model(*inputs),
        "flax_call": lambda model, *inputs, train: _mode(model, train)(*inputs),
        "weights": sources.convert.convert,
    }


PAIRS: dict[str, Callable[..., dict[str, Any]]] = {"vision": vision, "text": text, "recurrent": recurrent}


def load(pair: str, mutant: Mutant | Rewriting | None = None, seed: int = 0) -> dict[str, Any]:
    """Keyword arguments of `parity.Pair`: of a pair, or of a pair with a mistake.

    The files run as modules that nothing else knows of, so that pairs and mistakes don't meet.

    Args:
      pair: a name in `PAIRS`.
      mutant: what is changed first in one of the pair's files.
      seed: of the weights and inputs.
    """
    assert mutant is None or mutant.pair == pair
    return PAIRS[pair](Sources(*(_run(pair, file, mutant) for file in FILES)), seed)


def read(pair: str, file: str) -> str:
    """The text of one of a pair's files."""
    return (FOLDER / pair / file).read_text(encoding="utf-8")


def _run(pair: str, file: str, mutant: Mutant | Rewriting | None) -> ModuleType:
    source, name = read(pair, file), f"{pair}/{file}"
    if mutant and mutant.file == file:
        if source.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: its code occurs {source.count(mutant.old)} times in {name}")
        source, name = source.replace(mutant.old, mutant.new), f"{name}, {mutant.name}"
    module = ModuleType(f"outside_{pair}_{file.removesuffix('.py')}")
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return module


def _seeded(seed: int, build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def _mode(model: Any, train: bool) -> Any:
    model.train() if train else model.eval()
    return model
