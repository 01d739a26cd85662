"""A layer that makes a known mistake gets its name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from parity.comparison.causes import layers
from parity.comparison.causes.evidence import Evidence, to_array
from parity.verify import cases

LAYERS: list[Callable[[], nn.Module]] = [
    lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1, bias=False),
    lambda: nn.Conv2d(4, 4, 3, padding=1, bias=False),
    lambda: nn.BatchNorm2d(4),
    lambda: nn.Linear(6, 3),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("make_layer", LAYERS)
def test_every_known_mistake_of_a_layer_is_recognised(make_layer: Callable[[], nn.Module], training: bool):
    """A layer that makes it gets its name; one that makes none of them does not."""
    torch.manual_seed(0)
    module = cases.disturb(make_layer().double(), 0).train(training)
    shape = (4, 6) if isinstance(module, nn.Linear) else (4, 4, 8, 8)
    x = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        right = to_array(copy.deepcopy(module)(x))
    given = Evidence(module, (x,), {}, right, right, [], training)
    known = []
    for _, words, make in layers.mistakes(given):
        try:
            with torch.no_grad():
                made = to_array(make())
        except (RuntimeError, IndexError, ValueError, AttributeError, TypeError):
            continue
        if made.shape == right.shape and not np.allclose(made, right, rtol=0, atol=given.match):
            known.append((words, made))  # others are the same function for this layer
    assert len(known) >= 5
    for _, made in known:
        wrong = dataclasses.replace(given, ours=made)
        cause = wrong.first(layers.mistakes(wrong))
        same = {words for words, other in known if np.allclose(other, made, rtol=0, atol=given.match)}
        assert cause is not None
        assert cause.words in same
    other = dataclasses.replace(given, ours=1 + np.square(right))
    assert other.first(layers.mistakes(other)) is None
