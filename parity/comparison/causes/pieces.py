"""Known mistakes between layers: activations, sums, pools, flattening, and who gets whose result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity.cause import is_close
from parity.comparison.causes import attention
from parity.comparison.causes.activations import ACTIVATIONS
from parity.comparison.causes.evidence import Alternative, Evidence, to_array

NEAR = 8  # values that passed just before
FAR = 40  # values that may be given by mistake


def mistakes(given: Evidence) -> Iterator[Alternative]:
    """What could arrive instead."""
    for group in (_activations, _gates, _sums, _order, _pools, attention.between, _others):
        try:
            yield from group(given)
        except (RuntimeError, ValueError, IndexError):  # values that don't go together in this way
            continue


def _near(given: Evidence) -> list[tuple[str, Tensor]]:
    size = given.theirs.size
    return [(n, torch.from_numpy(a)) for n, a in given.earlier if a.size == size and a.ndim][:NEAR]


def _activations(given: Evidence) -> Iterator[Alternative]:
    """g(x) instead of f(x), where f is what PyTorch does to an earlier value, perhaps with a mean behind."""
    for name, array in given.earlier[:NEAR]:
        x = torch.from_numpy(array)
        for behind, reduce in _reductions(x, given.theirs).items():
            right = _recognised(x, given.theirs, reduce)
            if right is None:
                continue
            for words, other in ACTIVATIONS.items():
                if words != right:
                    yield (
                        "activation", f"{words} instead of {right} behind {name}{behind}",
                        lambda f=other, x=x, r=reduce: _like(r(f(x)), given.theirs),
                    )  # fmt: skip
    theirs = torch.from_numpy(given.theirs)
    for words, other in ACTIVATIONS.items():
        if words != "no activation":
            yield "activation", f"{words} is applied once more", lambda f=other: f(theirs)


def _reductions(x: Tensor, value: np.ndarray) -> dict[str, Any]:
    """What may be behind an activation: nothing, or a mean or sum with as many numbers as `value` has."""
    found: dict[str, Any] = {}
    if x.numel() == value.size:
        found[""] = lambda x: x
    for words, axes in {
        "the image": tuple(range(2, x.ndim)),
        "the tokens": (1,),
        "the last axis": (-1,),
    }.items():
        if axes and x.ndim > 1 and x.mean(axes).numel() == value.size and x.numel() != value.size:
            found[f" and the mean over {words}"] = lambda x, axes=axes: x.mean(axes)
            found[f" and the sum over {words}"] = lambda x, axes=axes: x.sum(axes)
    return found


def _recognised(x: Tensor, value: np.ndarray, reduce: Any = lambda x: x) -> str | None:
    """The activation by which a value came from x, if one did."""
    for words, function in ACTIVATIONS.items():
        if is_close(value, _like(reduce(function(x)), value)):
            return words
    return None


def _gates(given: Evidence) -> Iterator[Alternative]:
    """A gated unit, a·f(b): which half is the gate, and by which function."""
    size, shape = given.theirs.size, given.theirs.shape
    near = [(n, torch.from_numpy(a)) for n, a in given.earlier if a.ndim == len(shape)][:NEAR]
    halves: list[Any] = [(f"{n}'s halves", *x.chunk(2, -1)) for n, x in near if x.numel() == 2 * size]
    same = [(n, x) for n, x in near if x.numel() == size]
    halves += [(f"{a} and {b}", x, y) for (a, x), (b, y) in itertools.combinations(same, 2)]
    for names, a, b in halves:
        for (words, function), turned in itertools.product(ACTIVATIONS.items(), (False, True)):
            value, gate = (a, b) if turned else (b, a)
            if is_close(given.theirs, to_array(_like(value * function(gate), given.theirs))):
                yield (
                    "activation", f"the gate and the value are exchanged, in {names}",
                    lambda v=gate, g=value, f=function: _like(v * f(g), given.theirs),
                )  # fmt: skip
                for other, f in ACTIVATIONS.items():
                    yield (
                        "activation", f"{other} instead of {words} at the gate, in {names}",
                        lambda v=value, g=gate, f=f: _like(v * f(g), given.theirs),
                    )  # fmt: skip


def _sums(given: Evidence) -> Iterator[Alternative]:
    """f(a + b) where one part, or the activation, is missing or elsewhere."""
    for (a, x), (b, y) in itertools.combinations(_near(given), 2):
        if x.shape != y.shape:
            continue
        right = _recognised(x + y, given.theirs)
        if right is None:
            continue
        f = ACTIVATIONS[right]
        for words, make in {
            f"{a} is not added": lambda y=y, f=f: f(y),
            f"{b} is not added": lambda x=x, f=f: f(x),
            f"{a} is subtracted": lambda x=x, y=y, f=f: f(y - x),
            f"{b} is subtracted": lambda x=x, y=y, f=f: f(x - y),
            f"{a} is added twice": lambda x=x, y=y, f=f: f(y + 2 * x),
            f"{b} is added twice": lambda x=x, y=y, f=f: f(x + 2 * y),
            "the mean of both paths instead of the sum": lambda x=x, y=y, f=f: f((x + y) / 2),
        }.items():
            yield "wiring", words, lambda make=make: _like(make(), given.theirs)
        for other, g in ACTIVATIONS.items():
            if other != right:
                words = f"{other} instead of {right} behind the sum of {a} and {b}"
                yield "activation", words, lambda x=x, y=y, g=g: _like(g(x + y), given.theirs)
        for part, x1, y1 in ((a, x, y), (b, y, x)):
            words = f"{right} comes before the sum, at {part}"
            yield "activation", words, lambda x1=x1, y1=y1, f=f: _like(f(x1) + y1, given.theirs)


def _order(given: Evidence) -> Iterator[Alternative]:
    """The same numbers in another order: a flatten of channels first beside one of channels last."""
    if not is_close(np.sort(given.ours, axis=None), np.sort(given.theirs, axis=None), given.match):
        return
    theirs = given.theirs
    for name, x in _near(given):
        right = _recognised(x.reshape(-1), theirs.reshape(-1)) or _recognised_sorted(x, theirs)
        if right is None:
            continue
        for axes in itertools.permutations(range(1, x.ndim)) if x.ndim <= 5 else ():
            words = f"flattened in the order of the axes {(0, *axes)} of {name}"
            f = ACTIVATIONS[right]
            yield (
                "flatten order", words,
                lambda x=x, axes=axes, f=f: _like(f(x).permute(0, *axes), theirs),
            )  # fmt: skip
    for axis in range(1, theirs.ndim):
        words = f"the axis {axis} is in reverse order"
        yield "wiring", words, lambda axis=axis: np.flip(theirs, axis)


def _recognised_sorted(x: Tensor, value: np.ndarray) -> str | None:
    """As `_recognised`, for numbers in any order."""
    for words, function in ACTIVATIONS.items():
        if is_close(np.sort(value, axis=None), np.sort(to_array(function(x)), axis=None)):
            return words
    return None


def _pools(given: Evidence) -> Iterator[Alternative]:
    """Pools of images: which of them PyTorch does is not asked, only which gives Flax's numbers."""
    for name, array in given.earlier[:NEAR]:
        if array.ndim != 4:
            continue
        x = torch.from_numpy(array)
        for (words, function), before in itertools.product(
            _pool_functions().items(), ("no activation", "ReLU", "SiLU")
        ):
            behind = "" if before == "no activation" else f" and {before}"
            yield (
                "pooling", f"{words} behind {name}{behind}",
                lambda f=function, g=ACTIVATIONS[before], x=x: _like(f(g(x)), given.theirs),
            )  # fmt: skip


def _pool_functions() -> dict[str, Any]:
    found: dict[str, Any] = {
        "the mean over the image": lambda x: x.mean((2, 3)),
        "the maximum over the image": lambda x: x.amax((2, 3)),
        "the sum over the image": lambda x: x.sum((2, 3)),
        "one pixel": lambda x: x[:, :, 0, 0],
    }
    for k, s, p in ((2, 2, 0), (2, 2, 1), (3, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0), (3, 3, 0), (3, 1, 0)):
        where = f"{k}×{k}, stride {s}, padding {p}"
        found[f"a max-pool of {where}"] = lambda x, k=k, s=s, p=p: F.max_pool2d(x, k, s, p)
        found[f"an average pool of {where}"] = lambda x, k=k, s=s, p=p: F.avg_pool2d(x, k, s, p)
        found[f"an average pool of {where} that leaves the padding out"] = lambda x, k=k, s=s, p=p: (
            F.avg_pool2d(x, k, s, p, count_include_pad=False)
        )
        found[f"a max-pool of {where} at the far side (SAME)"] = lambda x, k=k, s=s: F.max_pool2d(
            F.pad(x, (0, 1, 0, 1), value=-torch.inf), k, s
        )
        found[f"an average pool of {where} at the far side (SAME)"] = lambda x, k=k, s=s: F.avg_pool2d(
            F.pad(x, (0, 1, 0, 1)), k, s
        )
        found[f"a max-pool of {where} padded with zeros"] = lambda x, k=k, s=s, p=p: F.max_pool2d(
            F.pad(x, (p, p, p, p)), k, s
        )
    return found


def _others(given: Evidence) -> Iterator[Alternative]:
    """Another layer's value, as it is or with an activation, or a multiple of the right one."""
    for name, array in given.earlier[:FAR]:
        if array.size != given.theirs.size:
            continue
        for words, f in ACTIVATIONS.items():
            behind = "" if words == "no activation" else f", with {words}"
            x = torch.from_numpy(array)
            yield (
                "wiring", f"the value of {name} arrives instead{behind}",
                lambda f=f, x=x: _like(f(x), given.theirs),
            )  # fmt: skip


def _like(value: Tensor, like: np.ndarray) -> np.ndarray:
    return to_array(value.reshape(like.shape))
