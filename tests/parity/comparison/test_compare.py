"""`parity.compare`: equal pairs are called the same, mistakes are found at their place with their cause."""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from torch import nn

import parity
from parity.comparison.report import CompareReport
from parity.comparison.text import render
from recipe.system.errors import UserError
from tests.parity.comparison import small
from tests.parity.comparison.pairs import vit

F64: dict[str, Any] = {"precisions": ("f64",)}


def compare(flax_model: Any = None, torch_model: Any = None, **settings: Any) -> CompareReport:
    """The small pair, with what is other."""
    return parity.compare(
        torch_model or small.torch_mlp(), flax_model or small.FlaxMLP(), small.inputs(), **{**F64, **settings}
    )


@functools.cache
def same() -> CompareReport:
    """The small pair as it is, in all precisions."""
    return compare(precisions=("f64", "f32", "bf16"))


def test_an_equal_pair_is_the_same_in_every_precision():
    assert same().passed, render(same())
    assert {check.precision for check in same().checks} == {"exact", "f64", "f32", "bf16"}
    assert {check.level for check in same().checks} == {1, 2, 3, 4}


def test_every_layer_piece_parameter_and_input_was_compared():
    places = {(p.what, p.torch) for c in same().checks if c.precision == "f64" for p in c.findings}
    assert {("layer", n) for n in ("norm", "first", "second")} <= places
    assert {("between", n) for n in ("first", "second", "output")} <= places
    names = dict(small.torch_mlp().named_parameters())
    assert {("gradient", n) for n in names} | {("input gradient", "input 0")} <= places


def test_linen_networks_are_compared_too():
    report = compare(small.linen_mlp())
    assert report.passed, render(report)


@pytest.mark.parametrize(
    ("flax_model", "where", "family"),
    [
        (lambda: small.FlaxMLP(nnx.gelu), "second", "activation"),
        (lambda: small.FlaxMLP(nnx.relu), "second", "activation"),
        (lambda: small.FlaxMLP(lambda x: x), "second", "activation"),
        (lambda: small.FlaxMLP(eps=1e-5), "norm", "normalisation"),
        (lambda: small.FlaxMLP(lambda x: jax.lax.stop_gradient(nnx.gelu(x, approximate=False))), "first",
         "gradient"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_at_its_place(flax_model: Any, where: str, family: str):
    report = compare(flax_model())
    assert not report.passed
    assert [(d.first.torch, d.family) for d in report.differences] == [(where, family)], render(report)


def test_a_constant_in_float32_is_called_so():
    table = np.float32(1 / 3) * np.ones(12, np.float32)
    third = np.ones(12) / 3

    class Scaled(small.TorchMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.gelu(self.first(self.norm(x)))
            return self.second(y * torch.tensor(third).to(y.dtype))

    torch.manual_seed(0)
    report = compare(small.FlaxMLP(lambda x: nnx.gelu(x, approximate=False) * jnp.asarray(table)), Scaled())
    assert [d.first.verdict for d in report.differences] == ["float32-sized"]


def test_constants_of_fresh_networks_are_drawn_so_that_mistakes_show():
    class WithoutScale(small.FlaxMLP):
        def __call__(self, x: jax.Array) -> jax.Array:
            x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)
            return self.down(self.activation(self.up(x)))

    assert not compare(WithoutScale()).passed


def test_what_is_allowed_is_shown_with_its_reason_and_does_not_count():
    report = compare(small.FlaxMLP(eps=1e-5), allow=[("norm", "the port's own eps")])
    assert report.passed
    assert report.allowed
    assert not report.differences
    assert "the port's own eps" in render(report)


def test_assert_same_raises_with_the_report():
    with pytest.raises(AssertionError, match="eps is 1e-05 instead of 1e-06"):
        parity.assert_same(small.torch_mlp(), small.FlaxMLP(eps=1e-5), small.inputs(), **F64)
    assert parity.assert_same(small.torch_mlp(), small.FlaxMLP(), small.inputs(), levels=(1, 2), **F64).passed


def test_a_report_prints_as_text_and_shows_as_its_verdict():
    report = compare(small.FlaxMLP(eps=1e-5))
    assert str(report) == render(report)
    assert re.fullmatch(
        r"<CompareReport: NOT the same: 1 difference, first at norm ~ scaling\. \d+ s>", repr(report)
    )


def test_the_models_are_left_as_they_are():
    torch_model, flax_model, wide = small.torch_mlp(), small.FlaxMLP(), jax.config.jax_enable_x64
    before = {n: t.clone() for n, t in torch_model.state_dict().items()}
    ours = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(flax_model)))
    compare(flax_model, torch_model)
    assert all(torch.equal(before[n], t) for n, t in torch_model.state_dict().items())
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, nnx.to_pure_dict(nnx.state(flax_model))))
    assert type(flax_model.up) is nnx.Linear
    assert torch.get_default_dtype() == torch.float32
    assert jax.config.jax_enable_x64 == wide


def test_dropout_is_left_out_and_one_that_is_on_in_eval_is_named():
    class Dropped(small.FlaxMLP):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.down(self.drop(self.activation(self.up(self.scaling(x)))))

    report = compare(Dropped())
    assert report.passed, render(report)
    assert any("1 of rate 0.5 in Flax" in note for note in report.notes)
    on = compare(Dropped(), flax_call=lambda m, x, train: (m.train(), m(x))[1])
    assert [(d.family, d.first.flax) for d in on.differences] == [("dropout", "drop")]


def test_keyword_arguments_masks_and_trees():
    class Masked(small.TorchMLP):
        def forward(self, x: Any, mask: Any = None) -> Any:
            return {"logits": super().forward(x["a"]) * mask[:, None], "sum": (x["a"].sum(),)}

    class FlaxMasked(small.FlaxMLP):
        def __call__(self, x: Any, mask: Any = None) -> Any:
            return {"logits": super().__call__(x["a"]) * mask[:, None], "sum": (x["a"].sum(),)}

    torch.manual_seed(0)
    mask = np.array([True, False, True, True, True])
    given = parity.Arguments({"a": small.inputs()[0]}, mask=mask)
    report = parity.compare(Masked(), FlaxMasked(), given, **F64)
    assert report.passed, render(report)
    assert any("sum" in p.torch for p in report.places)


def test_a_mapping_that_is_given_for_some_tensors():
    report = compare(weights={"up.kernel": ("first.weight", lambda t: t.T)})
    assert report.passed
    wrong = compare(weights={"up.bias": ("first.bias", lambda t: t[::-1])})
    assert [d.first.torch for d in wrong.differences] == ["first"]
    with pytest.raises(UserError, match=r"Flax has no tensor 'up.kernl'; did you mean 'up.kernel'"):
        compare(weights={"up.kernl": ("first.weight", lambda t: t.T)})


def test_tied_weights_and_tensors_without_a_counterpart():
    class NoBias(small.FlaxMLP):
        def __init__(self) -> None:
            super().__init__()
            self.down = nnx.Linear(12, 3, use_bias=False, rngs=nnx.Rngs(0))

    report = compare(NoBias(), levels=(1,))
    assert [(d.first.torch, d.family) for d in report.differences] == [("second.bias", "missing parameter")]


def test_optimizers_are_compared():
    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01)

    assert compare(optimizers=(adam, optax.adam(0.01))).passed
    report = compare(optimizers=(adam, optax.adamw(0.01)))
    assert [check.level for check in report.checks if not check.passed] == [5]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"modes": "eval"}, "modes are a list"),
        ({"modes": ("evil",)}, "did you mean 'eval'"),
        ({"precisions": ("f16",)}, "unknown precision"),
        ({"allow": ["norm"]}, 'allow is a list of ("pattern", "reason")'),
        ({"levels": (7,)}, "levels are of"),
        ({"flax_model": small.LinenMLP()}, "a linen module needs its variables"),
        ({"flax_model": 3}, "flax_model is an nnx.Module"),
        ({"flax_model": small.torch_mlp()}, "flax_model is a network of the other framework"),
        ({"torch_outputs": lambda y: None}, "returns no float tensor"),
        ({"flax_outputs": lambda y: [y, y]}, "the outputs can't be paired"),
        ({"torch_model": "nan"}, "is not finite"),
        ({"torch_model": "noise"}, "changes from run to run"),
        ({"memory": 1e3}, "GiB may be used"),
        ({"weights": lambda t: {"up.kernel": 2 * t["first.weight"].T}}, "computes up.kernel"),
        ({"weights": lambda t: {"up.kernel": t["first.weight"]}}, "gives up.kernel the shape"),
        ({"weights": lambda t: t["no"]}, "the converter fails on"),
        ({"flax_call": lambda m, x, train: m(x[:, :4])}, "eval mode the Flax network does not run"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_one_line(settings: dict[str, Any], words: str):
    class Bad(small.TorchMLP):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if kind == "nan":
                return super().forward(x) / 0
            return super().forward(x) + torch.rand(3)

    kind = settings.get("torch_model")
    if isinstance(kind, str):
        settings = {**settings, "torch_model": Bad()}
    given = {"torch_model": small.torch_mlp(), "flax_model": small.FlaxMLP(), "inputs": small.inputs()}
    with pytest.raises(UserError) as refused:
        parity.compare(**{**given, **F64, **settings})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_frozen_parameters_stay_frozen():
    class Frozen(small.FlaxMLP):
        def __call__(self, x: jax.Array) -> jax.Array:
            up = jax.tree.map(jax.lax.stop_gradient, nnx.state(self.up))
            y = self.scaling(x) @ up["kernel"][...] + up["bias"][...]
            return self.down(self.activation(y))

    torch_model = small.torch_mlp()
    torch_model.first.requires_grad_(False)
    assert compare(Frozen(), torch_model).passed
    report = compare(small.FlaxMLP(), torch_model)
    assert [(d.family, d.first.torch) for d in report.differences] == [("gradient", "first.bias")]


def test_a_module_that_cannot_be_looked_into_is_listed():
    class Rematerialised(small.FlaxMLP):
        def __call__(self, x: jax.Array) -> jax.Array:
            return self.down(nnx.remat(lambda m, x: m.activation(m.up(m.scaling(x))))(self, x))

    report = compare(Rematerialised())
    assert report.passed, render(report)
    assert any("Linear" in words or "up" in words for words in report.unseen), report.unseen


def test_the_published_port_and_the_mended_one():
    report = parity.compare(**vars_of(vit.pair()))
    assert [(d.family, len(d.places), d.first.torch) for d in report.differences] == [
        ("activation", 2, "blocks.0.mlp.2")
    ], render(report)
    assert "GELU by tanh instead of the exact GELU" in report.differences[0].words
    assert parity.compare(**vars_of(vit.mended())).passed


def vars_of(pair: parity.Pair) -> dict[str, Any]:
    """A pair's fields, in float64 alone."""
    return {f.name: getattr(pair, f.name) for f in dataclasses.fields(pair)} | F64
