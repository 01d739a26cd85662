"""Who computes, what the log says, and what happens without a compiler or library."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from flax_resnet import cpu_kernels
from flax_resnet.cpu_kernels import build
from flax_resnet.model import ReLU
from flax_resnet.nn import activations
from flax_resnet.nn.batch_norm import BatchNorm
from flax_resnet.predict import runtime
from flax_resnet.steps import make_eval_step, make_loss
from flax_resnet.train_state import abstract_model, initial_batch_stats, initial_params
from recipe.normalisation import standardisation_table
from recipe.system.caches import cache_folder
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
    before = list(folder.iterdir())
    with pytest.raises(build.Unavailable, match="error"):
        build.build()
    assert list(folder.iterdir()) == before


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A compiler whose library is the text "code", and a file with a line for each time that it ran."""
    compiler, ran = tmp_path / "c++", tmp_path / "ran"
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exit\nwhile [ "$1" != -o ]; do shift; done\n'
        f'printf code > "$2"\necho once more >> {ran}\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    return ran


def open_to_all(library: Path) -> None:
    library.chmod(0o777)


def given_away(library: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    os.chown(library, 65534, -1)


@pytest.mark.parametrize(
    "harm",
    [lambda file: file.write_bytes(b""), lambda file: file.write_bytes(b"cod"),
     lambda file: file.write_bytes(b"codf"), open_to_all, given_away],
    ids=["empty", "truncated", "altered", "open to all", "another user's"],
)  # fmt: skip
def test_a_kept_library_that_may_not_be_ours_is_built_again(harm: Any, builds: Path):
    library = build.build()
    assert build.build() == library
    assert len(builds.read_text().splitlines()) == 1
    assert library.stat().st_mode & 0o777 == 0o700
    harm(library)
    assert build.build() == library
    assert library.read_text() == "code"
    assert len(builds.read_text().splitlines()) == 2
    assert library.stat().st_uid == os.getuid()
    assert build.build() == library
    assert len(builds.read_text().splitlines()) == 2


def test_a_library_planted_by_the_name_of_ours_is_not_used(builds: Path):
    library = build.build()
    planted = library.with_name(f"{library.name[:-68]}-{'0' * 64}.so")
    assert planted.name.count("-") == library.name.count("-") == 2
    library.rename(planted)
    planted.write_text("harm")
    assert build.build() == library
    assert library.read_text() == "code"
    assert not planted.exists()


def test_from_a_folder_that_others_can_write_nothing_is_loaded(builds: Path, monkeypatch: pytest.MonkeyPatch):
    build.build()
    cache_folder().chmod(0o777)
    monkeypatch.setattr(build, "library", build.library.__wrapped__)
    used, line = cpu_kernels.choose("auto", "f32")
    assert not used
    assert line.startswith("XLA's: others can write to ")


def norm(native: bool) -> BatchNorm:
    """A batch norm whose scale, bias and statistics are not the initial ones."""
    layer = BatchNorm(3, cpu_kernels=native)
    rng = np.random.default_rng(0)
    layer.scale[...], layer.bias[...], layer.mean[...] = (
        jnp.asarray(rng.normal(size=3), jnp.float32) for _ in range(3)
    )
    layer.var[...] = jnp.asarray(rng.uniform(0.5, 2, 3), jnp.float32)
    return layer


def normals(seed: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(1, 2, (4, 5, 5, 3)), jnp.float32)


@pytest.mark.parametrize("relu", [None, ReLU(), activations.relu])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_with_sum_and_relu_is_their_composition(
    training: bool, with_residual: bool, relu: Callable[[jax.Array], jax.Array] | None
):
    """Values, gradients of everything, and statistics, by native code and by XLA's."""
    dy = normals(2)
    given = (normals(0), normals(1) if with_residual else None)

    def run(native: bool, composed: bool) -> list[Any]:
        layer = norm(native)
        layer.train() if training else layer.eval()
        graphdef, *states = nnx.split(layer, nnx.Param, ...)
        params, statistics = map(nnx.to_pure_dict, states)

        def forward(params: Any, x: jax.Array, residual: jax.Array | None) -> Any:
            layer = nnx.merge(graphdef, params, statistics)
            if composed:
                y = layer(x)
                y = y if residual is None else y + residual
                y = y if relu is None else relu(y)
            else:
                y = layer(x, residual=residual, relu=relu)
            return y, nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))

        y, pull, moved = jax.vjp(forward, params, *given, has_aux=True)
        return jax.tree.leaves((y, moved, pull(dy)))

    wanted = run(native=False, composed=True)
    for native, composed, tolerance in ((False, False, 0), (True, True, 1e-5), (True, False, 1e-5)):
        found = run(native, composed)
        assert len(found) == len(wanted) == 6 + with_residual
        for a, b in zip(found, wanted, strict=True):
            assert isinstance(a, jax.Array)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("native", [False, True])
def test_a_batch_norm_moves_its_statistics_once_by_being_called(native: bool):
    """Whether or not its result is used, and however often."""
    x = normals(0)
    for then in ({}, {"relu": ReLU()}, {"residual": x}, {"residual": x, "relu": activations.relu}):
        layer = norm(native)
        mean, var = layer.mean[...], layer.var[...]
        y = layer(x, **then)
        n = x.size // 3
        for _ in range(2):
            np.testing.assert_allclose(layer.mean[...], 0.9 * mean + 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
            unbiased = x.var((0, 1, 2)) * n / (n - 1)
            np.testing.assert_allclose(layer.var[...], 0.9 * var + 0.1 * unbiased, rtol=1e-5)
            assert (y + y).shape == x.shape


def test_native_code_does_sum_and_relu_in_the_same_pass():
    """Nothing of theirs is left to XLA; a sum without a ReLU is."""
    graphdef, state = nnx.split(norm(native=True))
    state = nnx.to_pure_dict(state)

    def program(**then: Any) -> str:
        return str(jax.make_jaxpr(lambda x: nnx.merge(graphdef, state)(x, **then))(normals(0)))

    joined = program(residual=normals(1), relu=activations.relu)
    assert joined.count("ffi_call[") == 1
    assert "max" not in joined
    assert "4,5,5,3] = add" not in joined
    assert "4,5,5,3] = add" in program(residual=normals(1))
