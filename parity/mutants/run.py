"""`python -m parity mutants`: make realistic mistakes one at a time, and see whether `verify` finds them.

Each mutant is an edit of one file in a copy of the project; `verify` runs in the copy, in a process of its
own. It must fail, name the right place, and the right family of causes.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flax_resnet.cpu_kernels.build import has_amx, load
from parity.mutants.catalogue import MUTANTS, Mutant
from parity.verify.project import PACKAGES, ROOT
from recipe.output import grid
from recipe.system.errors import UserError
from recipe.system.processor import processor_flags

VERIFY = ["verify", "--quick", "--stop", "--width=8"]
NATIVE = "cpu_kernels"  # in the path of files that only native kernels have
SECONDS = 1800  # after which a mutant counts as not caught


def run(names: Sequence[str], jobs: int, on_result: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Verify mutants, several at a time.

    Args:
      names: parts of names of mutants; none means all.
      jobs: how many at a time.
      on_result: called with each result when it is there.

    Returns:
      one dict per mutant: name, file, caught_by (the check), where, family, cause, expected_family, seconds,
      and right: whether it was caught where and as what it should be.

    Raises:
      UserError: if a name matches none, the code to change is not there any more, or all that are named would
        not show on this machine: native kernels that it has none of, or does not use on such a processor.
        Where some would show, the others are left out, and named.
    """
    chosen = [m for m in MUTANTS if not names or any(name.lower() in m.name.lower() for name in names)]
    if not chosen:
        raise UserError(f"no mutant is named like {' or '.join(names)}")
    for mutant in chosen:
        changed(mutant)
    hidden = {mutant.name: why for mutant in chosen if (why := why_hidden(mutant))}
    if len(hidden) == len(chosen):
        raise UserError(f"no mistake to plant that shows here: {next(iter(hidden.values()))}")
    for name, why in hidden.items():
        print(f"left out: {name}: {why}", file=sys.stderr)
    chosen = [mutant for mutant in chosen if mutant.name not in hidden]
    results = []
    with tempfile.TemporaryDirectory() as cache, concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        threads = max(1, (os.cpu_count() or 1) // jobs)  # more would wait for each other
        for result in pool.map(lambda mutant: attempt(mutant, cache, threads), chosen):
            results.append(result)
            on_result(result)
    return results


def why_hidden(mutant: Mutant) -> str:
    """Why a mistake would not show on this machine; "" if it does."""
    if NATIVE not in mutant.file:
        return ""
    if why_not := load():
        return f"no native kernels: {why_not}"
    for flag in mutant.processor.split():
        unwanted, name = flag.startswith("-"), flag.removeprefix("-")
        if (name in processor_flags()) == unwanted:
            return f"it shows on processors {'without' if unwanted else 'with'} {name}"
    if "amx_bf16" in mutant.processor.split() and not has_amx():
        return "it shows where the compiler and the system know AMX"
    return ""


def changed(mutant: Mutant) -> str:
    """The text of the mutated file."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise UserError(
            f"the mutant {mutant.name!r} finds its code {text.count(mutant.old)} times in {mutant.file}, "
            "not once: bring parity/mutants/catalogue.py up to date"
        )
    return text.replace(mutant.old, mutant.new)


def attempt(mutant: Mutant, cache: str, threads: int) -> dict[str, Any]:
    """Make one mistake in a copy of the project and run `verify` there, on the CPU.

    `threads` limits its OpenMP threads, unless the mutant is a native kernel's.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutant.file).write_text(changed(mutant), encoding="utf-8")
        command = [sys.executable, "-m", "parity", *VERIFY, *mutant.flags, f"--json={copy / 'report.json'}"]
        # most programs are the same for all mutants: compile them once; compiled mutants are deleted with it
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.01",
            "JAX_PLATFORMS": "cpu",
            "XDG_CACHE_HOME": cache,
        }
        if NATIVE not in mutant.file:  # those may show between threads only
            environment["OMP_NUM_THREADS"] = str(threads)
        try:
            done = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
            crash = done.stderr.strip().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            crash = [f"no verdict after {SECONDS} s"]
        report = copy / "report.json"  # a crash leaves none
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {"checks": []}
        lost = "" if report.exists() else " ".join(crash)
    failed = next((check for check in found["checks"] if not check["passed"]), None)
    result: dict[str, Any] = {
        "name": mutant.name,
        "file": mutant.file,
        "caught_by": f"{failed['level']} {failed['name']} ({failed['precision']})" if failed else "",
        "where": str(failed["first_failure"]) if failed else lost,
        "family": failed["family"] if failed else "",
        "cause": failed["cause"] if failed else "",
        "expected_family": " or ".join(mutant.families),
        "seconds": round(time.monotonic() - started, 1),
    }
    result["right"] = (
        failed is not None
        and failed["family"] in mutant.families
        and bool(re.search(mutant.where, result["where"]))
    )
    return result


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """The table for the docs."""
    lines = ["| mistake | file | caught by | where | family |", "|---|---|---|---|---|"]
    for result in results:
        mark = "" if result["right"] else " **not right**"
        cells = (result["name"] + mark, f"`{result['file']}`", result["caught_by"] or "**nothing**",
                 f"`{result['where']}`", result["family"])  # fmt: skip
        lines.append(grid.markdown_row(cells))
    return "\n".join(lines) + "\n"
