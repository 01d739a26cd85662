"""Level 1: names, shapes, counts, and the layer tables."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import numpy as np
from flax.traverse_util import flatten_dict

import flax_resnet
import torch_ref
from flax_resnet.naming import torch_key, torch_shape
from flax_resnet.train_state import abstract_model
from parity.arrays import join, split
from parity.cause import Cause
from parity.convert.state_dicts import wanted_shapes
from parity.result import Check, Finding, Findings
from parity.verify.case import Case
from recipe.state_dict import COUNTER


def check(case: Case) -> Iterator[Check]:
    """Names and shapes of all tensors, a round trip through Flax, then the layer tables row by row."""
    _, params, batch_stats = abstract_model(case.description, "f32")
    ours = {
        torch_key(path): torch_shape(leaf.shape)
        for tree in (params, batch_stats)
        for path, leaf in flatten_dict(tree).items()
    }
    theirs = {k: v for k, v in wanted_shapes(case.description).items() if not k.endswith(COUNTER)}
    yield _compare("names and shapes of all tensors", ours, theirs)
    yield round_trip(case)
    tables = [
        {f"row {i + 1}": row for i, row in enumerate(engine.layer_rows(case.description))}
        for engine in (flax_resnet, torch_ref)
    ]
    yield _compare("layer tables", *tables)


def round_trip(case: Case) -> Check:
    """Every tensor to Flax's names and axes and back."""
    again = join(split(case.model))
    found = Findings()
    for name, array in case.model.items():
        back = again.get(name, np.empty(0))
        same = array.shape == back.shape and array.tobytes() == back.tobytes()
        found.add(Finding(name, float(not same), 0.0), why=functools.partial(_reversed, name, array, back))
    return found.check(1, "all tensors to Flax and back", "exact", "differences")


def _reversed(name: str, array: np.ndarray, back: np.ndarray) -> Cause:
    """Which axis of a kernel (out, in, height, width) comes back in reverse order, if one does."""
    axes = {"height": 2, "width": 3, "input channels": 1, "output channels": 0}
    for what, axis in axes.items() if array.ndim == 4 else ():
        if np.array_equal(np.flip(array, axis), back):
            return Cause("convolution", f"{name} comes back with its {what} in reverse order")
    return Cause("structure", f"{name} does not come back as it was")


def _compare(name: str, ours: Mapping[str, object], theirs: Mapping[str, object]) -> Check:
    keys = [*theirs, *(key for key in ours if key not in theirs)]
    wrong = [key for key in keys if ours.get(key) != theirs.get(key)]

    def why() -> Cause:
        words = [
            f"{key} is {ours.get(key, 'absent')} in Flax and {theirs.get(key, 'absent')} in PyTorch"
            for key in wrong[:5]
        ]
        return Cause("structure", "; ".join(words))

    found = Findings()
    found.add(*(Finding(key, float(key in wrong), 0.0) for key in keys), why=why)
    return found.check(1, name, "exact", "differences")
