"""Level 1: names, shapes, counts, and the layer tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import flax_resnet
import torch_ref
from flax_resnet.naming import leaves, torch_key, torch_shape
from flax_resnet.train_state import abstract_model
from parity.case import Case
from parity.results import Check, Finding
from parity.state_dicts import wanted_shapes
from torch_ref.train_state import COUNTER


def check(case: Case) -> Iterator[Check]:
    """Names and shapes of all tensors, then the layer tables row by row."""
    _, params, batch_stats = abstract_model(case.description, "f32")
    ours = {
        torch_key(path): torch_shape(leaf.shape)
        for tree in (params, batch_stats)
        for path, leaf in leaves(tree)
    }
    theirs = {k: v for k, v in wanted_shapes(case.description).items() if not k.endswith(COUNTER)}
    yield _compare("names and shapes of all tensors", ours, theirs)
    tables = [
        {f"row {i + 1}": row for i, row in enumerate(engine.layer_rows(case.description))}
        for engine in (flax_resnet, torch_ref)
    ]
    yield _compare("layer tables", *tables)


def _compare(name: str, ours: Mapping[str, object], theirs: Mapping[str, object]) -> Check:
    keys = [*theirs, *(key for key in ours if key not in theirs)]
    findings = tuple(Finding(key, float(ours.get(key) != theirs.get(key)), 0.0) for key in keys)
    wrong = [f"{k} is {ours.get(k, 'absent')} in Flax and {theirs.get(k, 'absent')} in PyTorch"
             for k in keys if ours.get(k) != theirs.get(k)]  # fmt: skip
    family, cause = ("structure", "; ".join(wrong[:5])) if wrong else ("", "")
    return Check(1, name, "exact", "differences", findings, family, cause)
