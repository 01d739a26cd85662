"""Properties of the network, held by both engines."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from flax.traverse_util import flatten_dict

from flax_resnet.model import ResNet as FlaxResNet
from flax_resnet.naming import to_torch_layout, torch_key, torch_shape
from flax_resnet.nn.batch_norm import BatchNorm
from flax_resnet.steps import make_eval_step, make_loss
from flax_resnet.train_state import abstract_model, fit, initial_batch_stats, initial_params
from recipe.architectures import ARCHITECTURES, STEMS, ModelDescription
from recipe.output import layer_table
from recipe.system.errors import UserError
from torch_ref.model import ResNet as TorchResNet
from torch_ref.steps import cross_entropy
from torch_ref.train_state import set_initial_params


def description(
    arch: str = "resnet20", stem: str = "cifar", width: int = 4, classes: int = 10
) -> ModelDescription:
    names = tuple(map(str, range(classes)))
    width = width or ARCHITECTURES[arch].width
    return ModelDescription(arch, stem, width, names, (0.5,) * 3, (0.25,) * 3, 32, "digits")


# kuangliu/pytorch-cifar prints the first five, akamaster/pytorch_resnet_cifar10 the thin ones,
# torchvision's documentation the ImageNet ones.
PUBLISHED = {
    ("resnet18", "cifar", 10): 11_173_962,
    ("resnet34", "cifar", 10): 21_282_122,
    ("resnet50", "cifar", 10): 23_520_842,
    ("resnet101", "cifar", 10): 42_512_970,
    ("resnet152", "cifar", 10): 58_156_618,
    ("resnet20", "cifar", 10): 269_722,
    ("resnet32", "cifar", 10): 464_154,
    ("resnet44", "cifar", 10): 658_586,
    ("resnet56", "cifar", 10): 853_018,
    ("resnet110", "cifar", 10): 1_727_962,
    ("resnet20b", "cifar", 10): 272_474,
    ("resnet18", "imagenet", 1000): 11_689_512,
    ("resnet34", "imagenet", 1000): 21_797_672,
    ("resnet50", "imagenet", 1000): 25_557_032,
    ("resnet101", "imagenet", 1000): 44_549_160,
    ("resnet152", "imagenet", 1000): 60_192_808,
}


@pytest.mark.parametrize(("arch", "stem", "classes"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(arch: str, stem: str, classes: int):
    network = description(arch, stem, 0, classes)
    _, params, _ = abstract_model(network, "f32")
    assert sum(leaf.size for leaf in flatten_dict(params).values()) == PUBLISHED[arch, stem, classes]
    with torch.device("meta"):
        model = TorchResNet(network)
    assert sum(param.numel() for param in model.parameters()) == PUBLISHED[arch, stem, classes]


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_both_engines_have_the_same_names_and_shapes(arch: str, stem: str):
    network = description(arch, stem)
    _, params, batch_stats = abstract_model(network, "f32")
    ours = {
        torch_key(path): torch_shape(leaf.shape)
        for tree in (params, batch_stats)
        for path, leaf in flatten_dict(tree).items()
    }
    with torch.device("meta"):
        theirs = {name: tuple(tensor.shape) for name, tensor in TorchResNet(network).state_dict().items()}
    assert ours == {name: shape for name, shape in theirs.items() if not name.endswith("num_batches_tracked")}


def test_resnet18_has_62_parameters_and_40_statistics():
    _, params, batch_stats = abstract_model(description("resnet18", width=64), "f32")
    assert len(flatten_dict(params)) == 62
    assert len(flatten_dict(batch_stats)) == 40


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnet20"])
def test_layer_tables_are_equal(arch: str):
    import flax_resnet
    import torch_ref

    network = description(arch, width=0)
    assert flax_resnet.layer_rows(network) == torch_ref.layer_rows(network)


def test_layer_table_of_resnet18(engine: Any):
    rows = engine.layer_rows(description("resnet18", width=0))
    totals = layer_table.totals(rows, (3, 32, 32))
    assert len(rows) == 58
    assert (rows[0].name, rows[-1].name) == ("Conv2d", "Linear")
    assert totals.params == 11_173_962
    sizes = totals.forward_backward_size, totals.params_size, totals.total_size
    assert [f"{size:.2f}" for size in sizes] == ["13.63", "42.63", "56.26"]
    block = [row.name for row in rows[15:23]]  # the first one with a shortcut convolution
    assert block == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
        "Conv2d",
        "BatchNorm2d",
        "Conv2d",
        "BatchNorm2d",
        "ResBlock",
    ]


def flax_gradients(network: ModelDescription, batch: dict[str, np.ndarray]) -> tuple[dict, dict, dict]:
    """Initial statistics, new statistics and gradients, all under PyTorch's names."""
    graphdef, params, batch_stats = abstract_model(network, "f64")
    params, batch_stats = initial_params(0, params), initial_batch_stats(batch_stats)
    loss = make_loss(graphdef, 0.1)
    grads, (_, new) = jax.grad(loss, has_aux=True)(
        params, batch_stats, {k: jnp.asarray(v) for k, v in batch.items()}
    )

    def named(tree: Any) -> dict[str, np.ndarray]:
        return {
            torch_key(path): to_torch_layout(np.asarray(leaf)) for path, leaf in flatten_dict(tree).items()
        }

    return named(batch_stats), named(new), named(grads)


def torch_gradients(network: ModelDescription, batch: dict[str, np.ndarray]) -> tuple[dict, dict, dict]:
    """The same from PyTorch."""
    model = TorchResNet(network).double()
    set_initial_params(model, 0)

    def statistics() -> dict[str, np.ndarray]:
        return {k: v.numpy().copy() for k, v in model.state_dict().items() if "running" in k}

    before = statistics()
    logits = model(torch.from_numpy(batch["image"]).permute(0, 3, 1, 2))
    cross_entropy(logits, torch.from_numpy(batch["label"]), 0.1).backward()
    return (
        before,
        statistics(),
        {k: p.grad.numpy() for k, p in model.named_parameters() if p.grad is not None},
    )


GRADIENTS = {"flax": flax_gradients, "torch": torch_gradients}


def random_batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"image": rng.normal(1, 2, (8, 32, 32, 3)), "label": rng.integers(0, 10, 8)}


@pytest.mark.parametrize("side", GRADIENTS)
@pytest.mark.parametrize(
    ("arch", "stem"), [("resnet18", "cifar"), ("resnet50", "imagenet"), ("resnet20", "cifar")]
)
def test_every_parameter_learns_and_every_statistic_moves(side: str, arch: str, stem: str):
    network = description(arch, stem)
    before, after, grads = GRADIENTS[side](network, random_batch())
    with torch.device("meta"):
        assert grads.keys() == dict(TorchResNet(network).named_parameters()).keys()
    for name, grad in grads.items():
        assert np.isfinite(grad).all(), name
        assert np.any(grad != 0), name
    for name in before:
        assert np.all(before[name] != after[name]), name


@pytest.mark.parametrize(
    ("arch", "stem"), [("resnet18", "cifar"), ("resnet50", "imagenet"), ("resnet20", "cifar")]
)
def test_first_gradients_and_statistics_agree_in_float64(arch: str, stem: str):
    network = description(arch, stem)
    ours, theirs = (gradients(network, random_batch()) for gradients in GRADIENTS.values())
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        for name in our:
            error, size = np.abs(our[name] - their[name]).max(), np.abs(their[name]).max()
            assert error <= 1e-11 * size, (name, error, size)


def test_eval_mode_leaves_the_statistics_bit_equal():
    network = description()
    graphdef, params, batch_stats = abstract_model(network, "f64")
    params, batch_stats = initial_params(0, params), initial_batch_stats(batch_stats)
    model = nnx.merge(graphdef, params, batch_stats)
    model.eval()
    model(jnp.asarray(random_batch()["image"]))
    after = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), batch_stats, after))

    reference = TorchResNet(network).eval()
    before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    reference(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(before[name], tensor) for name, tensor in reference.state_dict().items())


def test_batch_norm_is_what_the_formula_says():
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (4, 3, 2, 2))
    layer = BatchNorm(2, dtype=jnp.float64, param_dtype=jnp.float64)
    layer.mean[...], layer.var[...] = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
    layer.scale[...], layer.bias[...] = jnp.array([2.0, 0.5]), jnp.array([-1.0, 1.0])
    y = layer(jnp.asarray(x))
    for c in range(2):
        values = x[..., c].ravel()
        mean, biased, unbiased = values.mean(), values.var(), values.var(ddof=1)
        expected = (x[..., c] - mean) / np.sqrt(biased + 1e-5) * [2.0, 0.5][c] + [-1.0, 1.0][c]
        np.testing.assert_allclose(y[..., c], expected, rtol=1e-13)
        np.testing.assert_allclose(layer.mean[...][c], 0.9 * [1.0, 2.0][c] + 0.1 * mean, rtol=1e-14)
        np.testing.assert_allclose(layer.var[...][c], 0.9 * [3.0, 4.0][c] + 0.1 * unbiased, rtol=1e-14)


def test_batch_norm_refuses_one_value_per_channel():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(2)(jnp.ones((1, 1, 1, 2)))


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    graphdef, params, batch_stats = abstract_model(description(), "bf16", "xla")
    assert {leaf.dtype for tree in (params, batch_stats) for leaf in flatten_dict(tree).values()} == {
        jnp.dtype("float32")
    }
    variables = initial_params(0, params), initial_batch_stats(batch_stats)
    text = (
        make_eval_step(graphdef)
        .lower(*variables, jnp.zeros((2, 32, 32, 3), jnp.uint8), jnp.zeros((256, 3), jnp.float32))
        .as_text()
    )
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 19
    assert all("bf16" in line and "f32" not in line for line in convolutions)


def test_a_checkpoint_that_does_not_fit_names_every_difference():
    _, params, _ = abstract_model(description(), "f32")
    saved = {"conv1": {"kernel": np.zeros((3, 3, 3, 5))}, "extra": {"bias": np.zeros(2)}}
    with pytest.raises(UserError) as error:
        fit(saved, params)
    for part in (
        "missing bn1.scale",
        "missing layer3.2.conv2.kernel",
        "unexpected extra.bias",
        "conv1.kernel has shape",
    ):
        assert part in str(error.value)


def test_a_fresh_flax_model_has_pytorchs_distribution():
    model = FlaxResNet(description(width=64), rngs=nnx.Rngs(0))
    kernel = np.asarray(model.layer1[0].conv1.kernel[...])
    bound = 1 / np.sqrt(64 * 9)
    assert bound * 0.999 < np.abs(kernel).max() <= bound
    np.testing.assert_allclose(kernel.std(), bound / np.sqrt(3), rtol=0.02)
    bias = np.asarray(model.linear.bias[...])
    assert len(set(bias)) == len(bias)
    assert 0 < np.abs(bias).max() <= 1 / np.sqrt(model.linear.in_features)


def test_description_survives_json():
    network = dataclasses.replace(description(), class_names=("zebra", "Ärmel"))
    assert ModelDescription.from_json(network.to_json()) == network
    for damaged in (
        "",
        "[]",
        "{}",
        network.to_json().replace("resnet20", "resnet21"),
        network.to_json()[:-5],
    ):
        with pytest.raises(UserError):
            ModelDescription.from_json(damaged)
