"""jit, vmap, higher derivatives, many threads, several devices."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.cpu_kernels import ops

ROOT = Path(__file__).parents[2]
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 8, 8, 32)), jnp.float32)
W = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 32, 32)), jnp.float32)


def loss(x: jax.Array, w: jax.Array) -> jax.Array:
    """A convolution by Winograd's algorithm and one by oneDNN's, with their batch norms."""
    scale, bias = jnp.ones(32, jnp.float32), jnp.zeros(32, jnp.float32)
    y, _, _ = ops.norm_train(ops.conv(x, w, 1, 1, "winograd"), scale, bias, 1e-5, x, True)
    y, _, _ = ops.norm_train(ops.conv(y, w, 1, 1, "onednn"), scale, bias, 1e-5, x, True)
    return jnp.sum(jnp.square(y))


def test_jit_and_vmap_give_what_single_calls_give():
    single = [jax.grad(loss, (0, 1))(x, W) for x in X]
    compiled = [jax.jit(jax.grad(loss, (0, 1)))(x, W) for x in X]
    mapped = jax.vmap(jax.grad(loss, (0, 1)), (0, None))(X, W)
    for i in range(len(X)):
        for a, b, c in zip(single[i], compiled[i], mapped, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c[i], rtol=1e-6, atol=1e-6)


def test_a_second_derivative_and_forward_mode_are_refused():
    with pytest.raises(ValueError, match="cannot be differentiated"):
        jax.grad(lambda x: jax.grad(loss)(x, W).sum())(X[0])
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda x: loss(x, W), (X[0],), (X[0],))


def test_other_dtypes_are_refused():
    with pytest.raises(Exception, match="float32 or bfloat16"):
        jax.block_until_ready(ops.conv(X[0].astype(jnp.float16), W, 1, 1))


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match="one value per channel"):
        jax.block_until_ready(
            ops.norm_train(X[0], jnp.ones(2, jnp.float32), jnp.zeros(2, jnp.float32), 1e-5, None, True)
        )
    with pytest.raises(Exception, match="one shape and dtype"):
        jax.block_until_ready(
            ops.norm_train(X[0], jnp.ones(32, jnp.float32), jnp.zeros(32, jnp.float32), 1e-5, X[0, :1], True)
        )
    with pytest.raises(Exception, match="fits the activations"):
        jax.block_until_ready(ops.conv(X[0], W[:, :, :8], 1, 1))


def test_calls_from_many_threads_do_not_disturb_each_other():
    step = jax.jit(jax.grad(loss, (0, 1)))
    wanted = [jax.device_get(step(x, W)) for x in X]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: jax.device_get(step(X[i % 3], W)), range(48)))
    for i, grads in enumerate(found):
        for a, b in zip(grads, wanted[i % 3], strict=True):
            np.testing.assert_array_equal(a, b)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from flax_resnet.cpu_kernels import choose, ops
from flax_resnet.cpu_kernels.build import load
assert not load(), load()
assert not choose("auto", "f32")[0]  # XLA splits a batch, and can't split these calls
x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 32)), jnp.float32)
w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 32, 32)), jnp.float32)
def loss(x, w):
    scale, bias = jnp.ones(32, jnp.float32), jnp.zeros(32, jnp.float32)
    y, _, _ = ops.norm_train(ops.conv(x, w, 1, 1, "winograd"), scale, bias, 1e-5, x, True)
    y, _, _ = ops.norm_train(ops.conv(y, w, 1, 1, "onednn"), scale, bias, 1e-5, x, True)
    return jnp.sum(y ** 2)
step = jax.jit(jax.grad(loss, (0, 1)))
wanted = step(x, w)
mesh = Mesh(np.array(jax.devices()), ("data",))
split = step(jax.device_put(x, NamedSharding(mesh, PartitionSpec("data"))),
             jax.device_put(w, NamedSharding(mesh, PartitionSpec())))
jax.tree.map(np.testing.assert_array_equal, split, wanted)
# each device on its own, all at once
found = [step(*jax.device_put((x, w), device)) for device in jax.devices() for _ in range(3)]
for grads in found:
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(grads), jax.device_get(wanted))
"""


def test_several_simulated_devices_call_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NARROW = """
import jax, jax.numpy as jnp, numpy as np
from flax_resnet.cpu_kernels import build, ops
assert not build.load(), build.load()
rng = np.random.default_rng(0)
for dtype, allowed in (("float32", 1e-5), ("bfloat16", 2e-2)):
    w = jnp.asarray(rng.normal(size=(1, 1, 8, 16)), jnp.float32)
    x = jnp.asarray(rng.normal(size=(17, 32, 32, 8)), dtype)
    gradient = jax.jit(jax.grad(lambda w: ops.conv(x, w, 2, 0).astype(jnp.float32).sum()))
    for _ in range(100):
        found = gradient(w)
    exact = np.asarray(x, np.float64)[:, ::2, ::2].sum((0, 1, 2))[:, None].repeat(16, 1)
    np.testing.assert_allclose(found[0, 0], exact, rtol=allowed, atol=allowed * 17)
"""


def test_two_threads_write_nothing_outside_of_the_kernel_of_a_narrow_shortcut():
    """oneDNN alone does, for fewer than 16 input channels, on processors with AVX-512; glibc then ends it."""
    done = subprocess.run(
        [sys.executable, "-c", NARROW], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
