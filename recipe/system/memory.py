"""What becomes of freed memory: it stays with the process, or goes back to the system.

Where it stays, a step on a CPU finds the pages of the step before.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
from pathlib import Path

# glibc's names and numbers for mallopt (malloc.h)
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

# what a container may have, by version 2 and 1 of Linux' control groups
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
DRIVER = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia"))  # one is there where NVIDIA's driver is


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to give nothing back to the system; whether it does so.

    By default malloc maps every large array anew, and the system clears each page when it is first written:
    of a step of ResNet18 on a CPU, that is a tenth or so (docs/results/speed.md). Both engines allocate by
    malloc. The price is memory that lies fragmented: the process grows by a quarter to a half.

    Threads that allocate already keep the default; so this comes first in a program. Elsewhere than on
    Linux with glibc it does nothing, nor where a GPU computes, whose arrays are not malloc's.
    """
    if platform.libc_ver()[0] != "glibc" or gpu_expected():
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    # one arena, grown at its end, never cut back (-1), and nothing outside of it
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])


def give_back_freed_memory() -> None:
    """Return to the system what this process has freed, where glibc's malloc kept it for itself.

    Programs that make a few large things one after another, each of other sizes, otherwise grow to twice
    what they need.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def most_memory() -> float:
    """The bytes that this machine has, or this container may have; infinite where the system does not say."""
    try:
        most = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        most = math.inf
    for path in LIMITS:
        try:
            most = min(most, float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):  # "max" is none
            continue
    return most


def gpu_expected() -> bool:
    """Whether this process is likely to compute on an NVIDIA GPU, found without a framework.

    To ask a framework means to import it, which starts threads. So a driver counts as a GPU in use, unless
    the environment hides GPUs (CUDA_VISIBLE_DEVICES is empty or -1) or asks JAX for the CPU
    (JAX_PLATFORMS=cpu). Where JAX was installed without its CUDA plugin beside a driver, that is a mistake,
    which costs the CPU's tenth; JAX_PLATFORMS=cpu avoids it.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    cpu = os.environ.get("JAX_PLATFORMS", "").strip() == "cpu"
    return not hidden and not cpu and any(path.exists() for path in DRIVER)
