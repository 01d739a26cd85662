"""Which algorithm a convolution takes, and what each refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from flax_resnet.cpu_kernels import ops
from flax_resnet.steps import make_loss
from flax_resnet.train_state import abstract_model
from tests.parity.helpers import describe


def let_processor(monkeypatch: pytest.MonkeyPatch, *, amx: bool) -> None:
    monkeypatch.setattr(ops, "processor_flags", lambda: ("avx512f", "amx_bf16") if amx else ("avx512f",))
    monkeypatch.setattr(ops, "has_amx", lambda: amx)


def algorithm(
    shape: tuple[int, ...], outputs: int, side: int = 3, stride: int = 1, dtype: str = "bfloat16"
) -> ops.Algorithm:
    kernel = jax.ShapeDtypeStruct((side, side, shape[-1], outputs), jnp.float32)
    return ops.fastest(jax.ShapeDtypeStruct(shape, dtype), kernel, stride, side // 2)


@pytest.mark.parametrize("amx", [False, True])
def test_winograd_is_taken_where_it_is_faster(amx: bool, monkeypatch: pytest.MonkeyPatch):
    let_processor(monkeypatch, amx=amx)

    def suits(shape: tuple[int, ...], outputs: int, side: int = 3, stride: int = 1, dtype: str = "float32"):
        return algorithm(shape, outputs, side, stride, dtype) == "winograd"

    assert suits((64, 32, 32, 64), 64)
    assert suits((64, 4, 4, 512), 512)
    assert suits((64, 32, 32, 64), 64, dtype="bfloat16") != amx
    assert suits((32, 4, 4, 512), 512, dtype="bfloat16") != amx
    assert not suits((16, 4, 4, 512), 512, dtype="bfloat16")  # the kernel's transform would cost too much
    assert suits((16, 4, 4, 512), 512)
    assert suits((64, 7, 7, 512), 512)
    assert not suits((64, 5, 5, 512), 512)  # oneDNN leaves out the padding, here too much of the work
    assert not suits((64, 32, 32, 64), 128, stride=2)
    assert not suits((64, 32, 32, 64), 64, side=1)
    assert not suits((64, 32, 32, 3), 64)
    assert suits((64, 32, 32, 32), 64)
    assert not suits((64, 32, 32, 16), 32)
    assert not suits((64, 32, 32, 64), 80)  # not a multiple of 32
    assert not suits((64, 2, 2, 512), 512)  # more than half of the work
    assert not suits((1, 4, 4, 512), 512)  # the kernel's transform would cost more than it saves


def test_amx_is_taken_where_images_fill_its_tiles(monkeypatch: pytest.MonkeyPatch):
    let_processor(monkeypatch, amx=True)
    assert algorithm((16, 4, 4, 512), 512) == "amx"
    assert algorithm((100, 9, 9, 64), 96, stride=2) == "amx"
    assert algorithm((64, 32, 32, 64), 128, side=1) == "amx"
    assert algorithm((15, 4, 4, 512), 512) == "onednn"  # an image is a row of a tile
    assert algorithm((64, 32, 32, 3), 64) == "onednn"
    assert algorithm((64, 32, 32, 32), 16) == "onednn"
    assert algorithm((64, 4, 4, 512), 512, dtype="float32") == "winograd"
    let_processor(monkeypatch, amx=False)
    assert algorithm((64, 4, 4, 512), 512, stride=2) == "onednn"
    # an older compiler; oneDNN has AMX all the same
    monkeypatch.setattr(ops, "processor_flags", lambda: ("amx_bf16",))
    assert algorithm((64, 4, 4, 512), 512) == "onednn"


@pytest.mark.parametrize(
    ("precision", "amx", "taken", "convolutions"),
    [
        ("f32", True, "winograd", 13), ("bf16", False, "winograd", 13),
        ("bf16", True, "amx", 19), ("f32", True, "onednn", 7),
    ],
)  # fmt: skip
def test_the_convolutions_of_a_resnet18_and_their_gradients(
    precision: str, amx: bool, taken: str, convolutions: int, monkeypatch: pytest.MonkeyPatch
):
    let_processor(monkeypatch, amx=amx)
    graphdef, *variables = abstract_model(describe("resnet18", width=64), precision)
    batch = {
        "image": jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((64,), jnp.int32),
    }
    gradients = jax.make_jaxpr(jax.grad(make_loss(graphdef, 0.0), has_aux=True))(*variables, batch)
    # the images' own gradient is among them: XLA drops it later
    assert str(gradients).count(f"('algorithm', '{taken}')") == 3 * convolutions


@pytest.mark.parametrize(
    ("algorithm", "dtype", "channels", "outputs", "side", "stride", "padding", "why"),
    [
        ("winograd", "float32", 32, 40, 3, 1, 1, "multiples of 32"),
        ("winograd", "float32", 40, 32, 3, 1, 1, "multiples of 32"),
        ("winograd", "float32", 32, 32, 1, 1, 0, "kernels of 3x3"),
        ("winograd", "float32", 32, 32, 3, 2, 1, "kernels of 3x3"),
        ("winograd", "float32", 32, 32, 3, 1, 0, "kernels of 3x3"),
        ("amx", "bfloat16", 32, 40, 3, 1, 1, "multiples of 32"),
        ("amx", "bfloat16", 40, 32, 3, 1, 1, "multiples of 32"),
        ("amx", "bfloat16", 32, 32, 9, 1, 4, "kernels of up to 7"),
        ("amx", "float32", 32, 32, 3, 1, 1, "for bfloat16"),
        ("another", "float32", 32, 32, 3, 1, 1, "not another"),
        ("onednn", "float32", 32, 32, 3, 1, -1, "no negative padding"),
    ],
)  # fmt: skip
def test_what_an_algorithm_can_not_do_is_refused(
    algorithm: ops.Algorithm,
    dtype: str,
    channels: int,
    outputs: int,
    side: int,
    stride: int,
    padding: int,
    why: str,
):
    x, kernel = jnp.ones((2, 8, 8, channels), dtype), jnp.ones((side, side, channels, outputs), jnp.float32)
    with pytest.raises(Exception, match=why):
        jax.block_until_ready(ops.conv(x, kernel, stride, padding, algorithm))


@pytest.mark.parametrize("algorithm", ["onednn", "winograd", "amx"])
@pytest.mark.parametrize("of", [0, 1])
def test_gradients_of_a_result_without_pixels_are_refused(algorithm: ops.Algorithm, of: int):
    def gradient(*arrays: jax.Array) -> jax.Array:
        y, vjp = jax.vjp(lambda *a: ops.conv(*a, 1, 0, algorithm), *arrays)
        assert y.shape == (2, 0, 0, 32)
        return vjp(jnp.ones_like(y))[of]

    arrays = jnp.ones((2, 2, 2, 32), jnp.bfloat16), jnp.ones((3, 3, 32, 32), jnp.float32)
    with pytest.raises(Exception, match="not empty expected"):
        jax.block_until_ready(jax.jit(gradient)(*arrays))


@pytest.mark.parametrize("algorithm", ["winograd", "amx"])
def test_kernels_that_are_bfloat16_are_refused(algorithm: ops.Algorithm):
    arrays = jnp.ones((2, 8, 8, 32), jnp.bfloat16), jnp.ones((3, 3, 32, 32), jnp.bfloat16)
    with pytest.raises(Exception, match="float32 kernels"):
        jax.block_until_ready(ops.conv(*arrays, 1, 1, algorithm))
