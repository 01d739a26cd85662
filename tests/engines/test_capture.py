"""What is recorded of a forward pass, with batch norms that do the sum and the ReLU behind them as well."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import flax_resnet.capture
import torch_ref.capture
from flax_resnet.model import ReLU
from flax_resnet.nn.batch_norm import BatchNorm
from flax_resnet.train_state import abstract_model, initial_batch_stats, initial_params
from tests.parity.helpers import describe
from torch_ref.model import ResNet as TorchResNet

SETTINGS = ["auto", "xla"]


def network(arch: str, setting: str) -> Any:
    graphdef, params, stats = abstract_model(describe(arch), "f32", setting)
    return nnx.merge(graphdef, initial_params(0, params), initial_batch_stats(stats))


def images() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 32, 32, 3)), jnp.float32)


def record(model: Any) -> tuple[list[flax_resnet.capture.Call], jax.Array]:
    with flax_resnet.capture.record_calls(model) as calls:
        logits = model(images())
    return calls, logits


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet20"])
def test_the_order_is_pytorchs(arch: str, setting: str):
    reference = TorchResNet(describe(arch))
    with torch_ref.capture.record_calls(reference) as theirs:
        reference(torch.zeros(2, 3, 32, 32))
    model, paths = network(arch, setting), []

    def traced(x: jax.Array) -> jax.Array:
        with flax_resnet.capture.record_calls(model) as calls:
            logits = model(x)
        paths.extend(call.path for call in calls)
        return logits

    model.eval()  # in which nothing outside of the trace changes
    jax.eval_shape(traced, images())
    assert paths == [call.path for call in theirs]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_batch_norm_is_recorded_on_its_own_and_its_relu_with_the_result(setting: str):
    model = network("resnet18", setting)
    untouched = nnx.clone(model)
    calls, _ = record(model)
    found = {call.path: call for call in calls}
    for path in ("bn1", "layer1.0.bn1", "layer2.0.bn2", "layer2.0.shortcut.1"):
        layer: Any = untouched
        for part in path.split("."):
            layer = layer[int(part)] if part.isdecimal() else getattr(layer, part)
        np.testing.assert_allclose(found[path].output, layer(found[path].input), rtol=1e-5, atol=1e-6)
        assert (found[path].output < 0).any()
    for norm, relu, user in (("bn1", "relu", "layer1.0.conv1"),
                             ("layer1.0.bn1", "layer1.0.relu", "layer1.0.conv2")):  # fmt: skip
        assert isinstance(found[relu].module, ReLU)
        assert found[relu].input is found[norm].output
        assert found[relu].output is found[user].input  # what goes on is what was recorded
        np.testing.assert_allclose(
            found[relu].output, np.maximum(found[norm].output, 0), rtol=1e-5, atol=1e-6
        )
    block = [found[f"layer2.0{part}"].output for part in (".bn2", ".shortcut.1", "")]
    np.testing.assert_allclose(block[2], np.maximum(block[0] + block[1], 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", SETTINGS)
def test_recording_changes_neither_result_nor_statistics_and_leaves_nothing_behind(setting: str):
    before = {cls: cls.__call__ for cls in (BatchNorm, ReLU, nnx.Conv)}
    plain, recorded = network("resnet20", setting), network("resnet20", setting)
    logits = plain(images())
    _, again = record(recorded)
    np.testing.assert_array_equal(again, logits)
    jax.tree.map(
        np.testing.assert_array_equal, nnx.state(recorded, nnx.BatchStat), nnx.state(plain, nnx.BatchStat)
    )
    with pytest.raises(AttributeError), flax_resnet.capture.record_calls(recorded):
        recorded(None)  # a failure inside
    assert {cls: cls.__call__ for cls in before} == before


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_fused_result_is_what_a_relu_is_recorded_with(setting: str, monkeypatch: pytest.MonkeyPatch):
    """A mistake that a batch norm makes only together with a ReLU shows at the ReLU."""
    original = BatchNorm.__call__

    def wrong(self: BatchNorm, x: jax.Array, **then: Any) -> jax.Array:
        y = original(self, x, **then)
        return y if then.get("relu") is None else y + 1

    monkeypatch.setattr(BatchNorm, "__call__", wrong)
    found = {call.path: call for call in record(network("resnet20", setting))[0]}
    np.testing.assert_allclose(found["bn1"].output.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(
        found["relu"].output, 1 + np.maximum(found["bn1"].output, 0), rtol=1e-5, atol=1e-5
    )


def test_a_layer_that_runs_twice_is_recorded_twice():
    class Twice(nnx.Module):
        def __init__(self) -> None:
            self.bn, self.relu = BatchNorm(3), ReLU()

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.bn(self.bn(x, relu=self.relu), residual=x, relu=self.relu)

    model = Twice()
    calls, result = record(model)
    assert [call.path for call in calls] == ["bn", "relu", "bn", "relu"]
    assert calls[2].input is calls[1].output
    np.testing.assert_array_equal(calls[3].input, calls[2].output + images())
    assert calls[3].output is result
