"""What a check found: measured errors beside allowed ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

LEVELS = {
    1: "structure",
    2: "evaluation forward",
    3: "training forward",
    4: "loss and gradients",
    5: "optimizer step",
    6: "input pipeline",
    7: "trajectory",
    8: "evaluation on data",
    9: "continuation",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One comparison of the two engines."""

    where: str  # a layer ("layer2.0.conv1"), a tensor ("layer2.0.conv1.weight"), a step ("step 17")
    error: float  # measured; NaN if one side alone is not finite
    allowed: float  # the budget, in the same unit

    @property
    def ratio(self) -> float:
        """Error over budget; above 1 it fails. 0/0 is 0, and what is not a number fails."""
        if self.error == 0:
            return 0.0
        if not math.isfinite(self.error) or not math.isfinite(self.allowed) or self.allowed <= 0:
            return math.inf
        return self.error / self.allowed


def first_over(findings: Iterable[Finding]) -> Finding | None:
    """The first finding that is over its budget."""
    return next((finding for finding in findings if finding.ratio > 1), None)


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

    level: int  # of LEVELS
    name: str
    precision: str  # f64 | f32 | bf16 | exact
    unit: str  # what error and allowed are: "of the largest element", "elements that differ", …
    findings: tuple[Finding, ...]
    family: str = ""  # of the likely cause, where it failed: one of parity.verify.diagnose.causes.FAMILIES
    cause: str = ""  # the likely cause in words, with the numbers that speak for it

    @property
    def passed(self) -> bool:
        """Whether something was compared, and every finding is within its budget."""
        return bool(self.findings) and all(finding.ratio <= 1 for finding in self.findings)

    @property
    def first_failure(self) -> Finding | None:
        """Where the engines first differ, in the order of the data."""
        return first_over(self.findings)

    @property
    def worst(self) -> Finding:
        """The finding closest to its budget, or furthest over it."""
        return max(self.findings, key=lambda finding: finding.ratio)


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that one run of `verify` found."""

    subject: str  # "resnet18, cifar stem, width 64, 10 classes"
    environment: dict[str, str]  # versions, devices, threads, precision flags
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check passed; without any check nothing is proven."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def first_failure(self) -> Check | None:
        """The failed check of the lowest level, which is where to look."""
        return next((check for check in self.checks if not check.passed), None)
