"""What a check found: measured errors beside allowed ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from parity.cause import Cause


@dataclasses.dataclass(frozen=True)
class Finding:
    """One comparison of the two engines."""

    where: str  # a layer ("layer2.0.conv1"), a tensor ("layer2.0.conv1.weight"), a step ("step 17")
    error: float  # measured; NaN if one engine alone is not finite
    allowed: float  # the budget, in the same unit

    @property
    def ratio(self) -> float:
        """Error over budget; above 1 it fails. 0/0 is 0, and what is not a number fails."""
        if self.error == 0:
            return 0.0
        if not math.isfinite(self.error) or not math.isfinite(self.allowed) or self.allowed <= 0:
            return math.inf
        return self.error / self.allowed

    @property
    def failed(self) -> bool:
        """Whether it is over its budget."""
        return self.ratio > 1


def first_over(findings: Iterable[Finding]) -> Finding | None:
    """The first finding that is over its budget."""
    return next((finding for finding in findings if finding.failed), None)


def elementwise(where: str, ours: np.ndarray, theirs: np.ndarray, bound: np.ndarray) -> Finding:
    """The element that is closest to its own bound, or furthest over it."""
    if ours.shape != theirs.shape or not np.isfinite(ours).all():
        return Finding(where, np.nan, float(bound.max()))
    difference = np.abs(ours - theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(difference == 0, 0.0, difference / bound)
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    return Finding(where, float(difference[worst]), float(bound[worst]))


@dataclasses.dataclass(frozen=True)
class Check:
    """A named check: its findings in the order in which data flows (gradients: against it)."""

    level: int  # of `Report.titles`
    name: str
    precision: str  # f64 | f32 | bf16 | exact
    unit: str  # what error and allowed are: "of the largest element", "elements that differ", …
    findings: tuple[Finding, ...]
    cause: Cause | None = None  # the likely one, where it failed

    @property
    def passed(self) -> bool:
        """Whether something was compared, and every finding is within its budget."""
        return bool(self.findings) and not any(finding.failed for finding in self.findings)

    @property
    def first_failure(self) -> Finding | None:
        """Where the engines first differ, in the order of the data."""
        return first_over(self.findings)

    @property
    def worst(self) -> Finding:
        """The finding closest to its budget, or furthest over it."""
        return max(self.findings, key=lambda finding: finding.ratio)


class Findings:
    """The findings of a check as they are made, and the cause of the first that fails."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._cause: Cause | None = None

    def add(self, *findings: Finding, why: Callable[[], Cause] | None = None) -> None:
        """Append findings.

        Args:
          *findings: in the order in which data flows.
          why: names the cause if one of them fails. It is called at once, and for the check's first failure
            alone: a cause may take long to find, and the arrays that show it are not kept.
        """
        if why and first_over(findings) and not first_over(self._findings):
            self._cause = why()
        self._findings += findings

    def check(self, level: int, name: str, precision: str, unit: str) -> Check:
        """The check of all these findings; arguments are fields of `Check`."""
        return Check(level, name, precision, unit, tuple(self._findings), self._cause)


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that one run found."""

    subject: str  # "resnet18, cifar stem, width 64, 10 classes"
    environment: dict[str, str]  # versions, devices, threads, precision flags
    checks: tuple[Check, ...]
    seconds: float
    titles: Mapping[int, str]  # of levels

    @property
    def passed(self) -> bool:
        """Whether every check passed; without any check nothing is proven."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def first_failure(self) -> Check | None:
        """The failed check of the lowest level, which is where to look."""
        return next((check for check in self.checks if not check.passed), None)
