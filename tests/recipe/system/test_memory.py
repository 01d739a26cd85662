"""Freed memory is used again, and not taken from the system anew."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

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
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is about glibc's malloc")
def test_the_second_array_finds_the_pages_of_the_first():
    first, second = faults("keep")
    assert first > 20 * second  # 4 KiB a fault, or more where the system gives larger pages
    first, second = faults("leave")
    assert second > first / 2  # the test sees the difference
