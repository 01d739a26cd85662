"""Who computes, what the log says, and what happens without a compiler or library."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_resnet import cpu_kernels
from flax_resnet.cpu_kernels import build
from flax_resnet.predict import runtime
from flax_resnet.steps import make_eval_step, make_loss
from flax_resnet.train_state import abstract_model, initial_batch_stats, initial_params
from recipe.normalisation import standardisation_table
from recipe.system.files import cache_folder
from tests.parity.helpers import describe


def calls(arch: str, precision: str, setting: str) -> tuple[str, Any]:
    """The program of a step's gradients and what it gives."""
    graphdef, params, stats = abstract_model(describe(arch), precision, setting)
    loss = jax.value_and_grad(make_loss(graphdef, 0.0), has_aux=True)
    rng = np.random.default_rng(0)
    dtype = jnp.float64 if precision == "f64" else jnp.float32
    batch = {"image": jnp.asarray(rng.normal(size=(6, 32, 32, 3)), dtype), "label": jnp.arange(6) % 3}
    arguments = initial_params(0, params), initial_batch_stats(stats), batch
    return str(jax.make_jaxpr(loss)(*arguments)), jax.jit(loss)(*arguments)


@pytest.mark.parametrize(("precision", "tolerance"), [("f32", 1e-3), ("bf16", 0.2)])
def test_a_network_gives_the_same_loss_gradients_and_statistics(precision: str, tolerance: float):
    program, native = calls("resnet20", precision, "auto")
    plain_program, plain = calls("resnet20", precision, "xla")
    assert "resnet_conv" in program
    assert "resnet_norm" in program
    assert "conv_general_dilated" not in program
    assert "resnet_" not in plain_program

    def joined(tree: Any) -> np.ndarray:  # single tensors of a deep, thin bfloat16 network are noise
        return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)])

    a, b = joined(native), joined(plain)
    assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def test_both_evaluate_alike_in_bfloat16():
    """XLA:CPU once gave NaN for the mean behind the last block, at the network's own width."""
    logits = []
    for setting in ("auto", "xla"):
        graphdef, params, stats = abstract_model(describe("resnet18", width=64), "bf16", setting)
        images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        table = jnp.asarray(standardisation_table((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)), jnp.float32)
        variables = initial_params(0, params), initial_batch_stats(stats)
        logits.append(np.asarray(make_eval_step(graphdef)(*variables, images, table)))
    native, plain = logits
    assert np.linalg.norm(native - plain) <= 0.02 * np.linalg.norm(plain)


def test_float64_and_several_devices_are_left_to_xla(monkeypatch: pytest.MonkeyPatch):
    assert cpu_kernels.choose("auto", "f64") == (False, "XLA's, in float64")
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert cpu_kernels.choose("auto", "f32")[0] is False


def test_an_accelerator_is_left_to_xla(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert cpu_kernels.choose("auto", "f32") == (False, "XLA's, on an accelerator")


def test_the_log_says_who_computes():
    assert runtime("f32").endswith("kernels: native")
    assert runtime("f32", "xla").endswith("kernels: XLA's (config.cpu_kernels=xla)")


def test_without_a_compiler_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    with pytest.raises(build.Unavailable, match="no C\\+\\+ compiler"):
        build.build()
    monkeypatch.setattr(build, "library", build.library.__wrapped__)
    used, line = cpu_kernels.choose("auto", "f32")
    assert not used
    assert line.startswith("XLA's: no C++ compiler")


def test_without_the_library_the_reason_is_told(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(build.Unavailable, match="onednn-devel-cpu-gomp is not installed"):
        build.build()


def test_a_compiler_that_fails_is_told_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "broken.cc"
    broken.write_text("int main( {\n")
    monkeypatch.setattr(build, "SOURCE", broken)
    folder = cache_folder()
    assert folder
    before = list(folder.iterdir())
    with pytest.raises(build.Unavailable, match="error"):
        build.build()
    assert list(folder.iterdir()) == before


def test_modules_that_follow_no_plan_still_see_the_array():
    """Batch norm's result is an array to whatever isn't a sum or a ReLU."""
    model = nnx.merge(*_with_state("resnet20")).layer1[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 2)), jnp.float32)
    waiting = model.bn1(x)
    assert waiting.shape == x.shape
    np.testing.assert_allclose(jnp.asarray(waiting).mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(jnp.asarray(waiting + x), jnp.asarray(waiting) + x, atol=1e-6)


def _with_state(arch: str) -> Any:
    graphdef, params, stats = abstract_model(describe(arch), "f32")
    return graphdef, initial_params(0, params), initial_batch_stats(stats)
