"""Recording a forward pass shows every layer, in one order on both sides, and changes nothing."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flax_resnet.capture
import torch_ref.capture
from flax_resnet.cpu_kernels import build
from flax_resnet.model import ResNet
from flax_resnet.nn.batch_norm import BatchNorm
from tests.parity.helpers import describe
from torch_ref.model import ResNet as TorchResNet


def network(native: bool) -> Any:
    return ResNet(describe("resnet18", width=8), rngs=nnx.Rngs(0), cpu_kernels=native)


@pytest.fixture(autouse=True)
def loaded() -> None:
    """The native kernels, where there are any."""
    if why_not := build.load():
        pytest.skip(why_not)


def images() -> Any:
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize("native", [False, True])
def test_the_order_is_pytorchs(native: bool):
    with flax_resnet.capture.record_calls(model := network(native)) as ours:
        model(images())
    torch_model = TorchResNet(describe("resnet18", width=8))
    with torch_ref.capture.record_calls(torch_model) as theirs, torch.no_grad():
        torch_model(torch.zeros(3, 3, 32, 32))
    assert [call.path for call in ours] == [call.path for call in theirs]


@pytest.mark.parametrize("native", [False, True])
def test_a_recorded_pass_gives_the_same_result_and_statistics(native: bool):
    plain, recorded = network(native), network(native)
    logits = plain(images())
    with flax_resnet.capture.record_calls(recorded) as calls:
        again = recorded(images())
    np.testing.assert_array_equal(again, logits)
    for a, b in zip(nnx.iter_modules(plain), nnx.iter_modules(recorded), strict=True):
        if isinstance(a[1], BatchNorm):
            np.testing.assert_array_equal(a[1].mean[...], b[1].mean[...])
            np.testing.assert_array_equal(a[1].var[...], b[1].var[...])
    assert calls
    assert "recorded" not in BatchNorm.__call__.__qualname__


@pytest.mark.parametrize("native", [False, True])
def test_a_batch_norm_is_seen_without_what_is_joined_to_it(native: bool):
    """Its own output has negative numbers; the ReLU's is the common pass's, of which they are cut off."""
    model = network(native)
    with flax_resnet.capture.record_calls(model) as calls:
        model(images())
    found = {call.path: call for call in calls}
    for norm, relu in (("bn1", "relu"), ("layer2.0.bn1", "layer2.0.relu")):
        assert found[norm].output.min() < 0
        np.testing.assert_allclose(found[relu].output, np.maximum(found[norm].output, 0), atol=1e-6)
    end, last = found["layer1.0"], found["layer1.0.bn2"]
    assert last.output.min() < 0
    np.testing.assert_allclose(end.output, np.maximum(last.output + end.input, 0), atol=1e-5)
