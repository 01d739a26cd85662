"""Winograd's algorithm against float64, within a bound derived from its arithmetic; and where it is taken.

y = Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A errs by at most γ·|Aᵀ|[(|G||g||Gᵀ|) ∘ (|Bᵀ||d||B|)]|A|, where γ counts the
roundings that a term can meet on its way (Higham, "Accuracy and Stability of Numerical Algorithms", section
3.1); the gradients alike. In bfloat16 both factors of ∘ are rounded to 8 bits first, which adds (1 + u)² − 1.
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

from flax_resnet.cpu_kernels import build, ops
from parity.budgets.reference import gamma
from recipe.system.processor import processor_flags
from tests.cpu_kernels.test_ops import BF16, DTYPES, check, draw, reference_conv

ROOT = Path(__file__).parent.parent.parent
A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], float)
B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]], float)
G = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], float) / 2
ROUNDINGS = 16  # of the three transforms and one product, at most
# in bfloat16, if the kernels were compiled for a processor that multiplies it
FACTORS_ARE_ROUNDED = "avx512_bf16" in processor_flags() and not any("-mno-" in flag for flag in build.FLAGS)


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


def forward(pixels: np.ndarray, kernels: np.ndarray, last: np.ndarray, like: np.ndarray) -> np.ndarray:
    """last (Σ kernels ∘ pixels) lastᵀ as an image, from what is multiplied."""
    n, height, width, _ = like.shape
    tiles = both_sides(last, np.einsum("tpqc,pqck->tpqk", pixels, kernels))
    down, across = (height + 1) // 2, (width + 1) // 2
    image = tiles.reshape(n, down, across, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return image.reshape(n, 2 * down, 2 * across, -1)[:, :height, :width]


def weight_gradient(pixels: np.ndarray, gradients: np.ndarray, last: np.ndarray) -> np.ndarray:
    """last (Σ pixels ∘ gradients) lastᵀ."""
    return both_sides(last, np.einsum("tpqc,tpqk->pqck", pixels, gradients)[None])[0]


def sizes_forward(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """|Aᵀ|[(|G||g||Gᵀ|) ∘ (|Bᵀ||d||B|)]|A|: what roundings are relative to, at most."""
    pixels, kernels = both_sides(abs(B.T), tiles_of(abs(x), 4, 1)), both_sides(abs(G), abs(kernel)[None])[0]
    return forward(pixels, kernels, abs(A.T), x)


def sizes_weight_gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """|Gᵀ|[Σ (|Bᵀ||d||B|) ∘ (|A||dy||Aᵀ|)]|G|."""
    pixels = both_sides(abs(B.T), tiles_of(abs(x), 4, 1))
    return weight_gradient(pixels, both_sides(abs(A), tiles_of(abs(dy), 2, 0)), abs(G.T))


def squares_forward(x: np.ndarray, kernel: np.ndarray) -> float:
    """The sum of squares of all terms: what independent roundings are relative to, on average."""
    pixels, kernels = both_sides(B.T, tiles_of(x, 4, 1)), both_sides(G, kernel[None])[0]
    return float(forward(pixels**2, kernels**2, A.T**2, x).sum())


def squares_weight_gradient(x: np.ndarray, dy: np.ndarray) -> float:
    """As `squares_forward`."""
    pixels, gradients = both_sides(B.T, tiles_of(x, 4, 1)), both_sides(A, tiles_of(dy, 2, 0))
    return float(weight_gradient(pixels**2, gradients**2, G.T**2).sum())


def check_norm(found: jax.Array, exact: np.ndarray, squares: float, what: str) -> None:
    """In bfloat16: both factors are rounded to nearest, once, and so is a result.

    A rounding is of at most u, so its mean square is u²/3 at most; where it is not to nearest, it is larger.
    """
    error = np.asarray(found).astype(np.float64) - exact
    of_result = (exact**2).sum() if found.dtype == jnp.bfloat16 else 0.0
    allowed = BF16**2 / 3 * (2 * squares * FACTORS_ARE_ROUNDED + of_result)
    assert (error**2).sum() <= allowed + 1e-9 * (exact**2).sum(), what


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
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "winograd"), x, w)
    dy, dy64 = draw(2, *y.shape, dtype=dtype)
    dx, dw = vjp(dy)
    y64, dx64, dw64 = reference_conv(x64, w64, dy64, 1)
    turned = w64[::-1, ::-1].transpose(0, 1, 3, 2)
    tiles = n * ((height + 1) // 2) * ((width + 1) // 2)
    factors = (1 + BF16) ** 2 - 1 if dtype == "bfloat16" and FACTORS_ARE_ROUNDED else 0.0
    terms = min(tiles, 256) + -(-tiles // 256)  # sums of 256 tiles, and their sum
    y_gamma, dx_gamma, dw_gamma = (
        (1 + factors) * (1 + gamma(n + ROUNDINGS, "f32")) - 1 for n in (inputs, outputs, terms)
    )
    check(y, y64, y_gamma * sizes_forward(x64, w64), "y")
    check(dx, dx64, dx_gamma * sizes_forward(dy64, turned), "dx")
    assert dw.dtype == jnp.float32
    check(dw, dw64, dw_gamma * sizes_weight_gradient(x64, dy64), "dw")
    if dtype == "bfloat16":
        check_norm(y, y64, squares_forward(x64, w64), "y")
        check_norm(dx, dx64, squares_forward(dy64, turned), "dx")
        check_norm(dw, dw64, squares_weight_gradient(x64, dy64), "dw")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "height", "width"), [(5, 9, 6), (1, 1, 1), (3, 21, 21)])
def test_small_integers_come_out_exactly(n: int, height: int, width: int, dtype: str):
    """All factors are powers of two: nothing but a result is rounded, so any wrong index or sign shows."""
    rng = np.random.default_rng(0)
    shapes = (n, height, width, 32), (3, 3, 32, 64), (n, height, width, 64)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "winograd"), jnp.asarray(x, dtype), jnp.asarray(w))
    wanted = reference_conv(*(array.astype(np.float64) for array in (x, w, dy)), 1)
    for found, exact in zip((y, *vjp(jnp.asarray(dy, dtype))), wanted, strict=True):
        np.testing.assert_array_equal(found, jnp.asarray(exact, found.dtype))


THREADS = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from flax_resnet.cpu_kernels import build, ops
assert not build.load(), build.load()
rng = np.random.default_rng(0)
hashes, sums = [], []
for dtype in ("float32", "bfloat16"):
    x, dy = (jnp.asarray(rng.normal(size=(5, 15, 18, channels)), dtype) for channels in (64, 96))
    w = jnp.asarray(rng.normal(size=(3, 3, 64, 96)), jnp.float32)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "winograd"), x, w)
    normed, pull = jax.vjp(lambda y: ops.norm_train(y, w[0, 0, 0], w[1, 1, 1], 1e-5, None, True), y)
    hashes += [hashlib.sha256(np.asarray(a).tobytes()).hexdigest() for a in (y, *vjp(dy))]
    sums += [float(np.abs(np.asarray(a, np.float64)).sum()) for a in (*normed, *pull(normed))]
print(hashes)
print(sums)
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
before = build.build()
build.FLAGS += ({without!r},)
assert build.build() != before
sys.exit(pytest.main(["tests/cpu_kernels/test_winograd.py", "-k", "results or integers"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{2 * (len(SHAPES) + 3)} passed" in done.stdout, done.stdout[-3000:]
