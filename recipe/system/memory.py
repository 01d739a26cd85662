"""Freed memory stays with the process. A step on a CPU then finds the pages of the step before."""

from __future__ import annotations

import ctypes
import platform

# glibc's names and numbers for mallopt (malloc.h)
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to give nothing back to the system; whether it does so.

    By default malloc maps every large array anew, and the system clears each page when it is first written:
    of a step of ResNet18 on a CPU, that is a tenth or so (docs/results/speed.md). Both engines allocate by
    malloc. The price is memory that lies fragmented: the process grows by a quarter to a half.

    Threads that allocate already keep their own way; so this comes first in a program. Elsewhere than on
    Linux with glibc it does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL("libc.so.6").mallopt
    # one arena, grown at its end, never cut back (-1), and nothing outside of it
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
