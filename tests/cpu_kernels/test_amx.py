"""Convolutions by the processor's matrix unit, against float64."""

from __future__ import annotations

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
from tests.cpu_kernels.test_ops import check, draw, reference_conv

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module", autouse=True)
def amx(native: None) -> None:
    if not build.has_amx():
        pytest.skip("no kernels for a matrix unit (AMX), or no such processor")


SHAPES = [  # batch, side, inputs, outputs, kernel, stride
    (1, 3, 32, 32, 3, 1),  # 15 rows of a tile stay empty
    (16, 4, 32, 64, 3, 1),
    (17, 5, 64, 32, 3, 2),  # a group without a partner
    (33, 8, 64, 96, 3, 1),  # an image in the second 32
    (40, 7, 32, 64, 1, 2),  # input pixels that nothing is made from
    (3, 9, 32, 32, 7, 2),
    (20, 1, 32, 32, 3, 1),
    (64, 4, 512, 512, 3, 1),
    (70, 20, 128, 64, 3, 1),  # more than is put into tiles at once
    (16, 2, 256, 128, 3, 1),  # kernels of more channels than stay near
    (70, 9, 64, 32, 3, 1),  # a strip of rows that ends inside of an image
    (48, 32, 64, 128, 3, 2),
]


@pytest.mark.parametrize(("n", "side", "inputs", "outputs", "kernel", "stride"), SHAPES)
def test_results_and_gradients(n: int, side: int, inputs: int, outputs: int, kernel: int, stride: int):
    """The factors are bfloat16 numbers; sums err by γₙ·Σ|a||b| at most, whatever their order."""
    x, x64 = draw(0, n, side, side, inputs, dtype="bfloat16")
    w, w64 = draw(1, kernel, kernel, inputs, outputs, dtype="bfloat16")
    w = jnp.asarray(np.asarray(w).astype(np.float32))
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, stride, kernel // 2, "amx"), x, w)
    dy, dy64 = draw(2, *y.shape, dtype="bfloat16")
    dx, dw = vjp(dy)
    wanted = reference_conv(x64, w64, dy64, stride)
    sizes = reference_conv(abs(x64), abs(w64), abs(dy64), stride)
    terms = kernel**2 * inputs, kernel**2 * outputs, wanted[0].size // outputs
    assert dw.dtype == jnp.float32
    for found, exact, size, count in zip((y, dx, dw), wanted, sizes, terms, strict=True):
        check(found, exact, gamma(count, "f32") * size, f"sum of {count}")


@pytest.mark.parametrize(
    ("n", "height", "width", "kernel", "stride", "padding"),
    [(21, 6, 5, 3, 1, 1), (35, 4, 9, 3, 2, 1), (16, 5, 7, 3, 1, 0), (2, 3, 8, 5, 2, 4), (33, 7, 2, 2, 3, 1)],
)
def test_small_integers_come_out_exactly(
    n: int, height: int, width: int, kernel: int, stride: int, padding: int
):
    """Nothing but a result is rounded, so any wrong index shows."""
    rng = np.random.default_rng(0)
    out = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    shapes = (n, height, width, 64), (kernel, kernel, 64, 32), (n, *out, 32)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes)
    arrays = jnp.asarray(x, jnp.bfloat16), jnp.asarray(w)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, stride, padding, "amx"), *arrays)
    wanted = reference_conv(*(array.astype(np.float64) for array in (x, w, dy)), stride, padding)
    for found, exact in zip((y, *vjp(jnp.asarray(dy, jnp.bfloat16))), wanted, strict=True):
        np.testing.assert_array_equal(found, jnp.asarray(exact, found.dtype))


@pytest.mark.parametrize(
    ("number", "rounded"),
    [
        (1 + 2.0**-8 + 2.0**-20, 1 + 2.0**-7),  # just above the middle of two numbers
        (1 + 2.0**-8, 1),  # in the middle: to the even one
        (1 + 3 * 2.0**-8, 1 + 2.0**-6),
    ],
)
def test_kernels_are_rounded_to_nearest_even(number: float, rounded: float):
    x = jnp.ones((16, 1, 1, 32), jnp.bfloat16)
    y, vjp = jax.vjp(lambda x: ops.conv(x, jnp.full((1, 1, 32, 32), number, jnp.float32), 1, 0, "amx"), x)
    for found in (y, *vjp(x)):
        np.testing.assert_array_equal(found, jnp.full_like(x, 32 * rounded))


def test_infinity_and_nan_reach_what_they_touch_and_nothing_else():
    x = jnp.zeros((20, 6, 6, 32), jnp.bfloat16).at[3, 2, 2, 5].set(jnp.inf).at[18, 0, 0, 1].set(jnp.nan)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "amx"), x, jnp.ones((3, 3, 32, 32), jnp.float32))
    assert (np.asarray(y)[3, 1:4, 1:4] == np.inf).all()
    assert np.isnan(np.asarray(y)[18, :2, :2]).all()
    assert (~np.isfinite(y)).sum() == (9 + 4) * 32
    ones = jnp.ones_like(x), jnp.ones((3, 3, 32, 32), jnp.float32)
    _, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "amx"), *ones)
    dx, dw = (np.asarray(a, np.float32) for a in vjp(jnp.zeros_like(y).at[18, 0, 0, 7].set(jnp.inf)))
    assert (dx[18, :2, :2] == np.inf).all()
    assert (~np.isfinite(dx)).sum() == 4 * 32
    assert not np.isfinite(dw[1:, 1:, :, 7]).any()
    assert (~np.isfinite(dw)).sum() == 4 * 32


THREADS = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from flax_resnet.cpu_kernels import build, ops
assert not build.load(), build.load()
rng = np.random.default_rng(0)
x, dy = (jnp.asarray(rng.normal(size=(70, 16, 16, channels)), jnp.bfloat16) for channels in (64, 96))
w = jnp.asarray(rng.normal(size=(3, 3, 64, 96)), jnp.float32)
y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, 1, 1, "amx"), x, w)
print([hashlib.sha256(np.asarray(a).tobytes()).hexdigest() for a in (y, *vjp(dy))])
"""


def test_the_number_of_threads_changes_no_bit():
    printed = set()
    for threads in ("1", "2", "5"):
        for limit in ({}, {"OMP_THREAD_LIMIT": "2"}):
            done = subprocess.run(
                [sys.executable, "-c", THREADS], cwd=ROOT, capture_output=True, text=True,
                env=os.environ | {"OMP_NUM_THREADS": threads} | limit,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            printed.add(done.stdout)
    assert len(printed) == 1
