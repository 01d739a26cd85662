"""The kernels read and write within their arrays, and do nothing that C++ leaves undefined."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import concurrent.futures
import jax, jax.numpy as jnp
from flax_resnet.cpu_kernels import build, ops
build.FLAGS = (*build.FLAGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")
assert not build.load(), build.load()

def block(x, w, scale, bias, mean, var, stride, algorithm):
    y, *_ = ops.norm_train(ops.conv(x, w, stride, w.shape[0] // 2, algorithm), scale, bias, 1e-5, None, True)
    y, *_ = ops.norm_train(y, scale, bias, 1e-5, y, True)
    y, *_ = ops.norm_train(y, scale, bias, 1e-5, None, False)
    y = ops.norm_eval(y, scale, bias, mean, var, 1e-5, y, True)
    return jnp.sum(jnp.square(ops.norm_eval(y, scale, bias, mean, var, 1e-5, None, False)))

def run(case):
    dtype, batch, side, inputs, outputs, kernel, stride, algorithm = case
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (batch, side, side, inputs), dtype)
    w = jax.random.normal(keys[1], (kernel, kernel, inputs, outputs), jnp.float32)
    vectors = [jnp.full(outputs, value, jnp.float32) for value in (1, 0.5, 0.1, 2)]
    grads = jax.jit(jax.grad(block, range(6)), static_argnums=(6, 7))(x, w, *vectors, stride, algorithm)
    assert all(bool(jnp.isfinite(grad).all()) for grad in grads)

cases = [
    (dtype, *sizes, "onednn")
    for dtype in (jnp.float32, jnp.bfloat16)
    for sizes in ((2, 7, 3, 17, 7, 2), (1, 9, 16, 64, 3, 1), (3, 6, 5, 33, 1, 2))
]
# from small to large: buffers grow, and only behind their end does a sanitizer see anything
for sizes in ((2, 1, 32, 64), (1, 2, 64, 32), (1, 15, 64, 96), (3, 33, 64, 96)):
    for dtype in (jnp.float32, jnp.bfloat16):
        run((dtype, *sizes, 3, 1, "winograd"))
if build.has_amx():
    for sizes in ((2, 1, 32, 64, 1, 1), (17, 2, 64, 32, 3, 1), (33, 5, 64, 96, 3, 2), (40, 15, 32, 32, 7, 2),
                  (33, 33, 64, 64, 3, 1)):
        run((jnp.bfloat16, *sizes, "amx"))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(run, cases))
for wrong in ((2, 4, 4, 3), (1, 4, 4, 5)):
    try:
        jax.block_until_ready(ops.norm_train(
            jnp.ones((2, 4, 4, 5)), jnp.ones(5), jnp.ones(5), 1e-5, jnp.ones(wrong), True))
    except Exception as error:
        assert "expected" in str(error), error
    else:
        raise AssertionError(wrong)
print("clean")
"""


def library(name: str) -> str:
    """The path of a library that the compiler brings, or ""."""
    compiler = shutil.which(os.environ.get("CXX", "g++")) or "false"
    done = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True)
    path = done.stdout.strip()
    return path if Path(path).is_absolute() else ""  # what it does not know it repeats


@pytest.mark.heavy
def test_address_and_undefined_behaviour_sanitizers_find_nothing(tmp_path: Path):
    preload = [library(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    if not all(preload):
        pytest.skip("the compiler has no sanitizers")
    environment = os.environ | {
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and XLA keep what they have until the end
        "XDG_CACHE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "clean"
