"""Both frameworks are timed with the same number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity.speed import threads

ROOT = Path(__file__).parents[3]
XLA = """
import os, jax, jax.numpy as jnp
jax.block_until_ready(jnp.ones((64, 64)) @ jnp.ones((64, 64)))
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.parametrize(
    ("given", "count"),
    [("1", 1), ("3", 3), ("2,4", 2), ("", None), ("many", None), ("0", None), ("-1", None)],
)
def test_the_number_is_openmps_or_that_of_the_cpus(
    given: str, count: int | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads.chosen() == (count or threads.cpus())


def xla_threads(count: int) -> int:
    """The threads of a process after XLA has computed with `count`."""
    environment = os.environ | threads.variables(count)
    done = subprocess.run([sys.executable, "-c", XLA], env=environment, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux lists a process's threads")
def test_xla_has_as_many_threads_as_it_is_told():
    assert xla_threads(9) - xla_threads(1) >= 8


def facts(torch: str, xla: str, device: str = "cpu") -> dict[str, str]:
    return {"torch threads": torch, "XLA threads": xla, "torch device": device, "CPUs": "2"}


def test_a_difference_is_told():
    assert threads.remarks(facts("2", "2")) == []
    assert threads.remarks(facts("1", "1")) == [
        "threads of PyTorch and of XLA: 1 each, by OMP_NUM_THREADS; CPUs: 2"
    ]
    assert "no fair comparison" in threads.remarks(facts("2", "1"))[0]
    assert threads.remarks(facts("2", "1", "NVIDIA H100")) == []


def test_one_threaded_xla_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NPROC", "4")
    assert threads.of_xla() == "4"
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    assert threads.of_xla() == "1"
