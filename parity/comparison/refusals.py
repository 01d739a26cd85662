"""Pairs that can't be compared, each refused in one line that says why and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from parity.comparison.mapping.mapping import TensorMap
from parity.comparison.mapping.twins import Twin
from parity.comparison.recording import Arrays, Recording
from recipe.system.errors import UserError, first_line

SHOWN = 4
# in float64, that are there at once in both frameworks; see docs/compare.md
COPIES, COPIES_OF_WEIGHTS = 5, 10
GIB = 2**30


@contextlib.contextmanager
def running(who: str, hint: str = "") -> Iterator[None]:
    """Around a stranger's network, which may raise anything.

    Args:
      who: does not run, in words.
      hint: what to look at.

    Raises:
      UserError: for any error, with its first line.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{who} does not run on these inputs ({first_line(error)}){hint}") from error


def of_outputs(run: Recording) -> None:
    """No floats, or values that are not finite."""
    if not run.outputs:
        raise UserError(
            "the PyTorch network returns no float tensor, so there is nothing to compare: see torch_outputs="
        )
    for name, array in run.outputs.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"PyTorch's own output {name} is not finite in float64 with these inputs: nothing can be "
                "compared with it"
            )


def of_randomness(first: Recording, second: Recording, mode: str) -> None:
    """A reference that gives something else every time."""
    for name, array in first.outputs.items():
        if not np.array_equal(array, second.outputs[name], equal_nan=True):
            raise UserError(
                f"PyTorch's output {name} in {mode} mode changes from run to run: something random is on "
                f"that is no dropout (stochastic depth?); set its rate to 0, or leave {mode} out of modes="
            )


def of_mapping(mapped: TensorMap, parameters: Sequence[str], gradients: bool) -> None:
    """A converter that computes, where gradients are asked for."""
    computed = [p for p in parameters if p in mapped.sources and not mapped.sources[p].learns]
    if gradients and computed:
        raise UserError(
            f"the converter computes {listed(computed)} instead of only moving values, so gradients can't be "
            "compared: --levels=1-3 (levels=(1, 2, 3)) leaves them out"
        )


def of_twins(twins: Sequence[Twin], described: Recording, mode: str) -> None:
    """Networks without a module in common."""
    if twins:
        return
    opaque = f"; {listed(described.opaque)} of Flax can't be looked into" if described.opaque else ""
    raise UserError(
        f"in {mode} mode no module of Flax that is called owns the same tensors as one of PyTorch, so no "
        f"layer can be compared on its own{opaque}"
    )


def of_memory(run: Recording, weights: Arrays, limit: float) -> None:
    """More captured values than may be kept."""
    captured = sum(p.value.nbytes * (1 if p.grad is None else 2) for p in run.slots.values())
    needed = COPIES * captured + COPIES_OF_WEIGHTS * sum(a.nbytes for a in weights.values())
    if needed > limit:
        raise UserError(
            f"the values between the layers need about {needed / GIB:.1f} GiB, and {limit / GIB:.1f} GiB may "
            "be used: give a smaller batch or image, or more by --memory (memory=)"
        )


def outputs(theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> str:
    """Outputs that can't be paired."""
    a, b = (
        ", ".join(f"{name} {array.shape}" for name, array in list(found.items())[:SHOWN])
        for found in (theirs, ours)
    )
    return (
        f"the outputs can't be paired: PyTorch gives {a}; Flax gives {b or 'none'}; choose them by "
        "torch_outputs= and flax_outputs="
    )


def listed(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
