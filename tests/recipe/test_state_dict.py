"""Names and shapes without a network are those of the network."""

from __future__ import annotations

import pytest
import torch

from recipe import state_dict
from recipe.architectures import ARCHITECTURES, STEMS
from tests.parity.helpers import describe
from torch_ref.model import ResNet


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_names_shapes_and_order_are_pytorchs(arch: str, stem: str):
    description = describe(arch, stem, width=4, classes=7)
    with torch.device("meta"):
        wanted = ResNet(description).state_dict()
    assert list(state_dict.shapes(description).items()) == [(n, tuple(t.shape)) for n, t in wanted.items()]
