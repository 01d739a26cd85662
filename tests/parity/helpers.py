"""Networks with disturbed statistics, and checkpoints of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from configs import r18
from parity.convert.files import Checkpoint
from parity.convert.layouts import OURS, Layout
from parity.convert.state_dicts import wanted_shapes
from parity.convert.writing import write
from parity.verify import cases
from recipe.architectures import ARCHITECTURES, ModelDescription
from recipe.state_dict import COUNTER, is_param


def describe(
    arch: str = "resnet20", stem: str = "cifar", width: int = 2, classes: int = 10, size: int = 32
) -> ModelDescription:
    names = tuple(f"class {i}" for i in range(classes))
    width = width or ARCHITECTURES[arch].width
    return ModelDescription(arch, stem, width, names, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), size, "digits")


def disturb(model: nn.Module) -> nn.Module:
    """Draw scales, biases and statistics away from 0 and 1, and set counters to 7."""
    for name, buffer in cases.disturb(model, 0).named_buffers():
        if name.endswith(COUNTER):
            buffer.fill_(7)
    return model


def random_arrays(shapes: dict[str, tuple[int, ...]], dtype: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Finite numbers of any size and sign, variances positive; counters 7."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if name.endswith(COUNTER):
            arrays[name] = np.asarray(7, np.int64)
            continue
        values = rng.normal(size=shape) * 2.0 ** rng.integers(-20, 4, shape)
        arrays[name] = (np.abs(values) if name.endswith("running_var") else values).astype(dtype)
    return arrays


def make_checkpoint(
    description: ModelDescription,
    dtype: Any = np.float32,
    *,
    step: int | None = None,
    counters: bool = True,
    momentum: bool = True,
) -> Checkpoint:
    """A run's checkpoint, or with no step weights only."""
    shapes = wanted_shapes(description)
    if not counters:
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith(COUNTER)}
    model = random_arrays(shapes, dtype)
    record: dict[str, Any] = {"model": json.loads(description.to_json())}
    buffers: dict[str, np.ndarray] | None = None
    if step is not None:
        model |= {name: np.asarray(step, np.int64) for name in shapes if name.endswith(COUNTER)}
        record["config"] = json.loads(r18.get_config().to_json())
        record["progress"] = {"step": step, "sums": {"loss": 0.1 + 0.2, "correct": 5, "steps": 2}}
        params = {n: s for n, s in shapes.items() if is_param(n)}
        buffers = random_arrays(params, dtype, seed=1) if momentum else {}
    return Checkpoint(record, model, buffers, "torch", OURS)


def save(path: Path, checkpoint: Checkpoint, form: str, layout: Layout = OURS) -> Path:
    write(path, checkpoint, form, layout)
    return path


def same(a: dict[str, np.ndarray] | None, b: dict[str, np.ndarray] | None) -> bool:
    """Whether two groups of arrays have the same names, dtypes, shapes and bytes."""
    if a is None or b is None:
        return a is b
    return a.keys() == b.keys() and all(
        a[n].dtype == b[n].dtype and a[n].shape == b[n].shape and a[n].tobytes() == b[n].tobytes() for n in a
    )
