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
from parity.budget import gamma
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


@pytest.mark.parametrize(("n", "side", "stride"), [(21, 6, 1), (35, 9, 2)])
def test_small_integers_come_out_exactly(n: int, side: int, stride: int):
    """Nothing but a result is rounded, so any wrong index shows."""
    rng = np.random.default_rng(0)
    out = (side - 1) // stride + 1
    shapes = (n, side, side, 64), (3, 3, 64, 32), (n, out, out, 32)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes)
    arrays = jnp.asarray(x, jnp.bfloat16), jnp.asarray(w)
    y, vjp = jax.vjp(lambda x, w: ops.conv(x, w, stride, 1, "amx"), *arrays)
    wanted = reference_conv(*(array.astype(np.float64) for array in (x, w, dy)), stride)
    for found, exact in zip((y, *vjp(jnp.asarray(dy, jnp.bfloat16))), wanted, strict=True):
        np.testing.assert_array_equal(found, jnp.asarray(exact, found.dtype))


def test_kernels_are_rounded_to_the_nearest():
    x = jnp.ones((16, 1, 1, 32), jnp.bfloat16)
    w = jnp.full((1, 1, 32, 32), 1 + 2.0**-8 + 2.0**-20, jnp.float32)  # just above the middle of two numbers
    np.testing.assert_array_equal(ops.conv(x, w, 1, 0, "amx"), jnp.full((16, 1, 1, 32), 32 * (1 + 2.0**-7)))


def test_infinity_and_nan_reach_what_they_touch_and_nothing_else():
    x = jnp.zeros((20, 6, 6, 32), jnp.bfloat16).at[3, 2, 2, 5].set(jnp.inf).at[18, 0, 0, 1].set(jnp.nan)
    y = np.asarray(ops.conv(x, jnp.ones((3, 3, 32, 32), jnp.float32), 1, 1, "amx"), np.float32)
    assert (y[3, 1:4, 1:4] == np.inf).all()
    assert np.isnan(y[18, :2, :2]).all()
    assert (~np.isfinite(y)).sum() == (9 + 4) * 32


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
