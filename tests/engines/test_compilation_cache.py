"""Compiled programs in the user's cache folder; JAX reads its settings once, so in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from flax_resnet.compilation_cache import _remove_damaged
from recipe.system.processor import processor_digest

ROOT = Path(__file__).parent.parent.parent
PROGRAM = """
import jax, jax.numpy as jnp
from flax_resnet.compilation_cache import keep_programs
keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8))))
print(jax.config.jax_compilation_cache_dir)
"""


def run(**variables: str) -> str:
    unset = {"JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR"}
    environment = {k: v for k, v in os.environ.items() if k not in unset} | variables
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_programs_are_kept_and_found_again(tmp_path: Path):
    folder = tmp_path / "flax_resnet" / "jax" / processor_digest()
    assert run(XDG_CACHE_HOME=str(tmp_path)) == str(folder)
    kept = {path.name for path in folder.iterdir() if path.name.endswith("-cache")}
    assert kept
    run(XDG_CACHE_HOME=str(tmp_path))  # without a warning, and nothing is compiled anew
    assert {path.name for path in folder.iterdir() if path.name.endswith("-cache")} == kept
    sound = {name: (folder / name).read_bytes() for name in kept}
    for i, (name, content) in enumerate(sound.items()):
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        (folder / name).write_bytes([flipped, content[:middle], b""][i % 3])
    run(XDG_CACHE_HOME=str(tmp_path))  # without a warning, and all are there again
    for name, content in sound.items():
        assert len(zlib.decompress((folder / name).read_bytes())) == len(zlib.decompress(content))


def test_jax_s_own_variables_come_first(tmp_path: Path):
    caches = tmp_path / "caches"
    other = str(tmp_path / "other")
    assert run(XDG_CACHE_HOME=str(caches), JAX_COMPILATION_CACHE_DIR=other) == other
    assert run(XDG_CACHE_HOME=str(caches), JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    assert not caches.exists()


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path):
    (tmp_path / "flax_resnet").mkdir()
    (tmp_path / "flax_resnet").chmod(0o777)
    assert run(XDG_CACHE_HOME=str(tmp_path)) == "None"
    assert not list((tmp_path / "flax_resnet").iterdir())


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null"])
def test_where_nothing_can_be_written_programs_are_compiled(home: str):
    assert run(XDG_CACHE_HOME=home) == "None"


def test_a_pipe_among_the_programs_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a-cache")
    _remove_damaged(tmp_path)
    assert list(tmp_path.iterdir()) == []
