"""Winograd's way against float64, within a bound derived from its own arithmetic; and where it is taken.

y = Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A errs by at most γ·|Aᵀ|[(|G||g||Gᵀ|) ∘ (|Bᵀ||d||B|)]|A|, where γ counts the
roundings that a term can meet on its way (Higham, "Accuracy and Stability of Numerical Algorithms", section
3.1); the gradients alike. For bfloat16, both factors of ∘ are rounded first, to 8 bits, which adds (1 + u)² − 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.cpu_kernels import ops
from flax_resnet.cpu_kernels.build import processor_flags
from flax_resnet.steps import make_loss
from flax_resnet.train_state import abstract_model
from parity.budget import gamma
from tests.cpu_kernels.test_ops import BF16, DTYPES, check, draw, reference_conv
from tests.parity.helpers import describe

ROOT = Path(__file__).parent.parent.parent
A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], float)
B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]], float)
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], float) / 2
ROUNDINGS = 16  # of the three transforms and one product, at most


def tiles_of(image: np.ndarray, side: int, before: int) -> np.ndarray:
    """(N, H, W, C) → (tiles, side, side, C): pixels 2i − before … of tile i, zeros outside."""
    n, height, width, channels = image.shape
    down, across = (height + 1) // 2, (width + 1) // 2
    padded = np.zeros((n, 2 * down + 2, 2 * across + 2, channels))
    padded[:, before : before + height, before : before + width] = image
    return np.stack(
        [
            padded[image_number, 2 * i : 2 * i + side, 2 * j : 2 * j + side]
            for image_number in range(n)
            for i in range(down)
            for j in range(across)
        ]
    )


def both_sides(matrix: np.ndarray, array: np.ndarray) -> np.ndarray:
    """matrix · array · matrixᵀ over axes 1 and 2 of (tiles, s, s, …)."""
    return np.einsum("pa,tab...,qb->tpq...", matrix, array, matrix)


def sizes_forward(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """|Aᵀ|[(|G||g||Gᵀ|) ∘ (|Bᵀ||d||B|)]|A|, as an image."""
    n, height, width, _ = x.shape
    points = both_sides(abs(B.T), tiles_of(abs(x), 4, 1))
    products = np.einsum("tpqc,pqck->tpqk", points, both_sides(abs(G), abs(kernel)[None])[0])
    tiles = both_sides(abs(A.T), products)
    down, across = (height + 1) // 2, (width + 1) // 2
    image = tiles.reshape(n, down, across, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(n, 2 * down, 2 * across, -1)[:, :height, :width]


def sizes_weight_gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """|Gᵀ|[Σ (|Bᵀ||d||B|) ∘ (|A||dy||Aᵀ|)]|G|."""
    points = both_sides(abs(B.T), tiles_of(abs(x), 4, 1))
    gradients = both_sides(abs(A), tiles_of(abs(dy), 2, 0))
    return both_sides(abs(G.T), np.einsum("tpqc,tpqk->pqck", points, gradients)[None])[0]


SHAPES = [
    (64, 4, 4, 64, 64),
    (3, 7, 9, 32, 96),  # odd sides, more tiles than one block, uneven channels
    (1, 16, 16, 64, 32),
    (2, 1, 5, 32, 32),
    (1, 2, 2, 32, 64),
    (5, 33, 32, 32, 32),  # several blocks per thread, and several for the weight gradient
    (4, 4, 4, 512, 512),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "height", "width", "inputs", "outputs"), SHAPES)
def test_results_and_gradients(n: int, height: int, width: int, inputs: int, outputs: int, dtype: str):
    x, x64 = draw(0, n, height, width, inputs, dtype=dtype)
    w, w64 = draw(1, 3, 3, inputs, outputs)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, True), x, w)
    dy, dy64 = draw(2, *y.shape, dtype=dtype)
    dx, dw = vjp(dy)
    y64, dx64, dw64 = reference_conv(x64, w64, dy64, 1)
    turned = w64[::-1, ::-1].transpose(0, 1, 3, 2)
    tiles = n * ((height + 1) // 2) * ((width + 1) // 2)
    factors = (1 + BF16) ** 2 - 1 if dtype == "bfloat16" else 0.0
    check(y, y64, (factors + gamma(inputs + ROUNDINGS, "f32")) * sizes_forward(x64, w64), "y")
    check(dx, dx64, (factors + gamma(outputs + ROUNDINGS, "f32")) * sizes_forward(dy64, turned), "dx")
    terms = min(tiles, 256) + -(-tiles // 256)  # sums of 256 tiles, and their sum
    assert dw.dtype == jnp.float32
    check(dw, dw64, (factors + gamma(terms + ROUNDINGS, "f32")) * sizes_weight_gradient(x64, dy64), "dw")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "height", "width"), [(5, 9, 6), (1, 1, 1), (3, 23, 20)])
def test_small_integers_come_out_exactly(n: int, height: int, width: int, dtype: str):
    """All factors are powers of two: nothing but a result is rounded, so any wrong index or sign shows."""
    rng = np.random.default_rng(0)
    shapes = (n, height, width, 32), (3, 3, 32, 64), (n, height, width, 64)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, True), jnp.asarray(x, dtype), jnp.asarray(w))
    wanted = reference_conv(*(array.astype(np.float64) for array in (x, w, dy)), 1)
    for found, exact in zip((y, *vjp(jnp.asarray(dy, dtype))), wanted, strict=True):
        np.testing.assert_array_equal(found, jnp.asarray(exact, found.dtype))


def test_it_is_taken_where_it_is_faster():
    def suits(
        shape: tuple[int, ...], outputs: int, side: int = 3, stride: int = 1, dtype: str = "float32"
    ) -> bool:
        kernel = jax.ShapeDtypeStruct((side, side, shape[-1], outputs), jnp.float32)
        return ops.suits_winograd(jax.ShapeDtypeStruct(shape, dtype), kernel, stride, side // 2)

    assert suits((64, 32, 32, 64), 64)
    assert suits((64, 4, 4, 512), 512)
    assert suits((64, 32, 32, 64), 64, dtype="bfloat16") == ("amx_bf16" not in processor_flags())
    assert not suits((64, 32, 32, 64), 128, stride=2)
    assert not suits((64, 32, 32, 64), 64, side=1)
    assert not suits((64, 32, 32, 3), 64)
    assert suits((64, 32, 32, 32), 64)
    assert not suits((64, 32, 32, 16), 32)
    assert not suits((64, 32, 32, 64), 80)  # not a multiple of 32
    assert not suits((64, 2, 2, 512), 512)  # oneDNN leaves out the padding, more than half of the work
    assert not suits((1, 4, 4, 512), 512)  # the kernel's transform would cost more than it saves


def test_a_resnet18_takes_it_for_thirteen_convolutions_and_their_gradients():
    graphdef, *variables = abstract_model(describe("resnet18", width=64), "f32")
    batch = {
        "image": jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((64,), jnp.int32),
    }
    gradients = jax.make_jaxpr(jax.grad(make_loss(graphdef, 0.0), has_aux=True))(*variables, batch)
    assert str(gradients).count("('winograd', True)") == 3 * 13


@pytest.mark.parametrize(
    ("x", "kernel", "dtype", "stride", "padding"),
    [
        ((2, 8, 8, 32), (3, 3, 32, 40), "float32", 1, 1), ((2, 8, 8, 40), (3, 3, 40, 32), "float32", 1, 1),
        ((2, 8, 8, 32), (1, 1, 32, 32), "float32", 1, 0),
        ((2, 8, 8, 32), (3, 3, 32, 32), "float32", 2, 1), ((2, 8, 8, 32), (3, 3, 32, 32), "float32", 1, 0),
    ],
)  # fmt: skip
def test_what_it_can_not_do_is_refused(
    x: tuple[int, ...], kernel: tuple[int, ...], dtype: str, stride: int, padding: int
):
    arrays = jnp.ones(x, dtype), jnp.ones(kernel, jnp.float32)
    with pytest.raises(Exception, match="Winograd's way is for"):
        jax.block_until_ready(ops.conv(*arrays, stride, padding, True))


THREADS = """
import hashlib, jax, numpy as np
from flax_resnet.cpu_kernels import build, ops
assert not build.load(), build.load()
rng = np.random.default_rng(0)
x, w, dy = (rng.normal(size=s).astype(np.float32) for s in ((5, 15, 18, 64), (3, 3, 64, 96), (5, 15, 18, 96)))
y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, True), x, w)
normed, pull = jax.vjp(lambda y: ops.norm_train(y, w[0, 0, 0], w[1, 1, 1], 1e-5, None, True), y)
print([hashlib.sha256(np.asarray(a).tobytes()).hexdigest() for a in (y, *vjp(dy))])
print([float(np.abs(np.asarray(a, np.float64)).sum()) for a in (*normed, *pull(normed))])
"""


def test_the_number_of_threads_changes_nothing():
    """No bit of a convolution, and next to nothing of batch norm; nor does a team smaller than asked for."""
    lines = []
    for threads in ({"OMP_NUM_THREADS": n} for n in ("1", "2", "5")):
        for limit in ({}, {"OMP_THREAD_LIMIT": "2"}):
            done = subprocess.run(
                [sys.executable, "-c", THREADS], cwd=ROOT, env=os.environ | threads | limit,
                capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            lines.append(done.stdout.splitlines())
    bits, sums = zip(*lines, strict=True)
    assert len(set(bits)) == 1
    for line in sums:
        np.testing.assert_allclose(json.loads(line), json.loads(sums[0]), rtol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("without", ["-mno-avx512bf16", "-mno-avx512f"])
def test_lesser_processors(without: str, tmp_path: Path):
    """The same tests with the code that this processor's lesser relatives get."""
    program = f"""
import sys, pytest
from flax_resnet.cpu_kernels import build
build.FLAGS += ({without!r},)
sys.exit(pytest.main(["tests/cpu_kernels/test_winograd.py", "-k", "gradients or integers"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert "20 passed" in done.stdout, done.stdout[-3000:]
    assert any((tmp_path / "flax_resnet").iterdir())  # it was this library
