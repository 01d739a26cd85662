"""Known mistakes between layers: residual sums, shortcuts, pools, and who gets whose output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from parity.cause import Cause, either, first_match, in_pytorch, is_close
from parity.engines import LayerCall, Pass, to_nhwc
from parity.result import Finding, first_over

Alternative = tuple[str, str, Callable[[], Any]]  # family, words, what it would give


def of_wiring(ours: Pass, theirs: Pass, findings: list[Finding]) -> Cause:
    """Why networks differ end to end; their layers one by one are compared elsewhere."""
    first = first_over(findings)
    assert first is not None
    path = first.where
    if path.endswith("(on one side only)"):
        return Cause("wiring", f"the engines do not run the same layers: {path}")
    index = next(i for i, name in enumerate(theirs.outputs) if name == path)
    layer, reference = ours.layers[index], theirs.layers[index]
    earlier = theirs.layers[:index]
    if is_close(layer.input, reference.input):
        sums = _block_sums(reference, earlier)
        if sums:
            cause = either(sums[0][2], sums[1:], layer.output, reference.output)
            if cause.family in ("unknown", "precision"):
                return Cause("wiring", f"{path}: its layers are right, their sum is not ({cause.words})")
            return cause
        return Cause("unknown", f"{path}: its input is right, its output is not: see this layer on its own")
    producer = earlier[-1].path if earlier else "the images"
    found = first_match(_inputs(reference, earlier), layer.input)
    if not found:  # or the mistake is PyTorch's
        index = next(i for i, other in enumerate(ours.layers) if other is layer)
        found = first_match(_inputs(layer, ours.layers[:index]), reference.input)
        found = found and in_pytorch(found)
    return found or Cause("wiring", f"{path} gets another input: between {producer} and {path}")


def _block_sums(block: LayerCall, earlier: list[LayerCall]) -> list[Alternative]:
    """What a residual block could give instead of relu(y + x)."""
    inner = [layer for layer in earlier if layer.path.startswith(f"{block.path}.")]
    main = [layer for layer in inner if ".shortcut" not in layer.path]
    if not main:
        return []
    shortcut = [layer for layer in inner if ".shortcut" in layer.path]
    y, x = main[-1].output, shortcut[-1].output if shortcut else block.input
    relu = lambda value: np.maximum(value, 0)  # noqa: E731
    name = block.path
    return [
        ("", "right", lambda: relu(y + x)),
        ("activation", f"{name}: no ReLU after the sum", lambda: y + x),
        ("activation", f"{name}: the ReLU comes before the sum", lambda: relu(y) + x),
        ("activation", f"{name}: a ReLU before the sum, and one after it", lambda: relu(relu(y) + x)),
        ("wiring", f"{name}: the shortcut is not added", lambda: relu(y)),
        ("wiring", f"{name}: the main path is not added", lambda: relu(x)),
        ("wiring", f"{name}: the shortcut is subtracted", lambda: relu(y - x)),
        ("wiring", f"{name}: the shortcut is added twice", lambda: relu(y + 2 * x)),
        ("wiring", f"{name}: the mean of both paths instead of the sum", lambda: relu((y + x) / 2)),
    ]


def _inputs(layer: LayerCall, earlier: list[LayerCall]) -> list[Alternative]:
    """What a layer could have got instead of its input."""
    found: list[Alternative] = []
    if earlier:
        before = torch.from_numpy(earlier[-1].output)
        if before.ndim == 4:
            x = before.permute(0, 3, 1, 2)
            pools = {
                "an average pool instead of a max-pool": lambda: F.avg_pool2d(x, 3, 2, 1),
                "an average pool that leaves the padding out": lambda: F.avg_pool2d(
                    x, 3, 2, 1, count_include_pad=False
                ),
                "a max-pool padded on the far side only": lambda: F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2),
                "a max-pool without padding": lambda: F.max_pool2d(x, 3, 2),
                "a max-pool of 2×2": lambda: F.max_pool2d(x, 2),
                "a max-pool that is not there in PyTorch": lambda: F.max_pool2d(x, 3, 2, 1),
                "the maximum over the image instead of the mean": lambda: x.amax((2, 3)),
                "the sum over the image instead of the mean": lambda: x.sum((2, 3)),
                "one pixel instead of the mean over the image": lambda: x[:, :, 0, 0],
            }
            for words, pool in pools.items():
                found.append(("pooling", f"before {layer.path}: {words}", _nhwc_of(pool)))
    expected = "the images" if not earlier else earlier[-1].path
    for other in reversed(earlier):
        activation = "relu" in expected and "bn" in other.path
        found.append(
            ("activation" if activation else "wiring",
             f"{layer.path} gets the output of {other.path} instead of {expected}'s",
             _value(other.output))
        )  # fmt: skip
        found.append(
            ("activation" if other.kind == "ReLU" else "wiring",
             f"{layer.path} gets the input of {other.path} instead of {expected}'s output",
             _value(other.input))
        )  # fmt: skip
    found.append(
        ("activation", f"{layer.path}: a ReLU too much, before it", lambda: np.maximum(layer.input, 0))
    )
    return found


def _value(array: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: array


def _nhwc_of(make: Callable[[], Tensor]) -> Callable[[], np.ndarray]:
    return lambda: to_nhwc(make())
