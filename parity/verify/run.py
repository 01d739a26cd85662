"""Run the levels' checks on a network, and report: do Flax and PyTorch compute the same?"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator

from flax_resnet.compilation_cache import keep_programs
from flax_resnet.cpu_kernels import choose
from flax_resnet.runtime import float64
from parity.cause import Cause
from parity.report import text as report_text
from parity.result import Check, Finding, Report
from parity.verify.case import Case
from parity.verify.cases import real_data
from parity.verify.environment import environment, subject
from parity.verify.levels.registry import CHEAP_FIRST, LEVELS
from parity.verify.project import PACKAGES, ROOT
from recipe.system.errors import UserError, first_line


def run(case: Case, levels: Iterable[int], *, stop: bool = False) -> Report:
    """Verify on what data there is; progress on stderr, then the summary on stdout."""

    def progress(check: Check) -> None:
        state = "ok" if check.passed else "FAILED"
        print(f"{state:>6}  {check.level} {check.name}, {check.precision}", file=sys.stderr, flush=True)

    keep_programs()
    case = dataclasses.replace(case, data=real_data(case.description))
    report = verify(case, levels, progress, stop=stop)
    print(report_text.render(report, report_text.use_colour(sys.stdout)))
    return report


def verify(
    case: Case,
    levels: Iterable[int],
    on_check: Callable[[Check], None],
    *,
    stop: bool = False,
) -> Report:
    """Run the checks of some levels.

    Args:
      case: the network, with weights.
      levels: numbers of `LEVELS`.
      on_check: called with every check when it is done.
      stop: whether to end at the first failure.
    """
    started = time.monotonic()
    checks: list[Check] = []
    with float64(True):
        for found in _checks(case, set(levels)):
            check = _without_kernels(found, case)
            checks.append(check)
            on_check(check)
            if stop and not check.passed:
                break
    checks.sort(key=lambda check: check.level)
    titles = {number: level.title for number, level in LEVELS.items()}
    return Report(subject(case), environment(case), tuple(checks), time.monotonic() - started, titles)


def _checks(case: Case, levels: set[int]) -> Iterator[Check]:
    """All checks of some levels."""
    for level in CHEAP_FIRST:
        if level not in levels:
            continue
        try:
            yield from LEVELS[level].checks(case)
        except UserError:
            raise
        except Exception as error:  # a network that does not run is a finding, whatever it raises
            yield crashed(level, error)


def _without_kernels(check: Check, case: Case) -> Check:
    """If native kernels ran and the check failed: try XLA's; if they pass, the native ones are the cause."""
    native = check.precision in ("f32", "bf16") and choose(case.cpu_kernels, check.precision)[0]
    if check.passed or not native:
        return check
    plain = _checks(dataclasses.replace(case, cpu_kernels="xla"), {check.level})
    again = next((c for c in plain if (c.name, c.precision) == (check.name, check.precision)), None)
    if again is None or not again.passed:
        return check
    words = "within its budget with XLA's kernels (--cpu-kernels=xla), not with the native ones"
    if check.cause:
        words += f": {check.cause.words}"
    return dataclasses.replace(check, cause=Cause("native kernels", words))


def crashed(level: int, error: Exception) -> Check:
    """The failed check of a level that could not be run, at the last line of this project's own code."""
    files = {str(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    where = f"{files[frames[-1].filename].relative_to(ROOT)}:{frames[-1].lineno}"
    finding = Finding(where, math.inf, 0.0)
    name = f"{LEVELS[level].title} does not run"
    return Check(level, name, "exact", "crash", (finding,), Cause("structure", first_line(error)))
