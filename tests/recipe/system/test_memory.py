"""Freed memory is used again, and not taken from the system anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.system import memory

ROOT = Path(__file__).parents[3]
MEBIBYTES = 64
PROGRAM = f"""
import resource, sys, threading
from recipe.system.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"1" * ({MEBIBYTES} << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
faults = []
for _ in range(2):
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
print(*faults)
"""


def faults(how: str) -> list[int]:
    """Page faults while an array is filled, in one thread and then in another."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is about glibc's malloc")
def test_the_second_array_finds_the_pages_of_the_first():
    first, second = faults("keep")
    assert first > 20 * second  # 4 KiB a fault, or more where the system gives larger pages
    first, second = faults("leave")
    assert second > first / 2  # the test sees the difference


@pytest.mark.parametrize(
    ("driver", "environment", "expected"),
    [
        ("", {}, False),
        ("nvidiactl", {}, True),
        ("proc", {}, True),
        ("nvidiactl", {"CUDA_VISIBLE_DEVICES": "0"}, True),
        ("nvidiactl", {"CUDA_VISIBLE_DEVICES": ""}, False),
        ("nvidiactl", {"CUDA_VISIBLE_DEVICES": "-1"}, False),
        ("nvidiactl", {"JAX_PLATFORMS": "cpu"}, False),
        ("nvidiactl", {"JAX_PLATFORMS": "cuda,cpu"}, True),
        ("", {"CUDA_VISIBLE_DEVICES": "0"}, False),
    ],
)
def test_malloc_is_left_alone_where_a_gpu_computes(
    driver: str,
    environment: dict[str, str],
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory, "DRIVER", (tmp_path / "nvidiactl", tmp_path / "proc"))
    if driver:
        (tmp_path / driver).touch()
    assert memory.gpu_expected() == expected
    if expected:  # else it would change this process
        assert not memory.keep_freed_memory()
