"""How many threads the contenders have: the same number for both frameworks."""

from __future__ import annotations

import os
from collections.abc import Mapping

ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"  # of XLA_FLAGS: XLA computes in one thread


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen() -> int:
    """What OMP_NUM_THREADS says, as it would to PyTorch; by default a thread for each CPU."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else cpus()


def variables(count: int) -> dict[str, str]:
    """The environment of a process in which every framework computes with `count` threads.

    OpenMP is PyTorch's and the native kernels', MKL may be PyTorch's, and NPROC is what XLA asks for the
    size of its thread pool, which does not listen to OpenMP.
    """
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"), str(count))


def remarks(environment: Mapping[str, str]) -> list[str]:
    """Notes for the report, by its environment: where threads are not one for each CPU, or differ."""
    theirs, ours = environment.get("torch threads"), environment.get("XLA threads")
    if environment["torch device"] != "cpu":
        return []
    if theirs != ours:
        return [f"PyTorch has {theirs} threads and XLA {ours}: these numbers are no fair comparison"]
    if ours != environment["CPUs"]:
        return [
            f"threads of PyTorch and of XLA: {ours} each, by OMP_NUM_THREADS; CPUs: {environment['CPUs']}"
        ]
    return []


def of_xla() -> str:
    """How many threads XLA computes with in this process, on a CPU."""
    return "1" if ONE_THREAD in os.environ.get("XLA_FLAGS", "") else os.environ.get("NPROC") or str(cpus())
