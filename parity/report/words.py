"""How the reports write numbers, margins and names."""

from __future__ import annotations

import math

from parity.result import Check, Finding, Report


def number(value: float) -> str:
    """Three digits, but small counts in full: 1.23e-13, 0, 17, nan."""
    if abs(value) < 1e5 and value == int(value):
        return str(int(value))
    return f"{value:.2e}" if math.isfinite(value) else str(float(value))


def margin(finding: Finding) -> str:
    """How far an error is from its budget: "exact", "28×" below it, "3.10× over", "not finite"."""
    if finding.ratio == 0 and finding.error == 0:
        return "exact"
    if not math.isfinite(finding.error) or not math.isfinite(finding.allowed):
        return "not finite"
    if finding.allowed == 0:
        return "over"
    return f"{_times(finding.ratio)} over" if finding.ratio > 1 else _times(finding.allowed / finding.error)


def of_budget(finding: Finding, unit: str = "") -> str:
    """The numbers of a finding as a clause: "error 17, allowed 0 bytes that differ (over)"."""
    allowed = f"{number(finding.allowed)} {unit}".rstrip()
    return f"error {number(finding.error)}, allowed {allowed} ({margin(finding)})"


def failures(check: Check) -> list[Finding]:
    """The findings over their budget, in the order of the data."""
    return [finding for finding in check.findings if finding.failed]


def less_exact(finding: Finding) -> bool:
    """Whether it is over its budget, and no failure: float64 shows that a formula only rounds more."""
    return finding.ratio > 1 and not finding.failed


def likely_cause(check: Check) -> str:
    """The cause of a failure in words, with its family."""
    if check.cause is None:
        return "none recognised"
    return f"{check.cause.words} [{check.cause.family}]" if check.cause.family else check.cause.words


def verdict(report: Report) -> str:
    """The report in one sentence, for its last line or its top."""
    count = len(report.checks)
    first = report.first_failure
    if first is None and not count:
        return "NOT the same: no check ran, so nothing is proven"
    if first is None:
        findings = [finding for check in report.checks for finding in check.findings]
        less = sum(map(less_exact, findings))
        return (
            f"The two engines compute the same: {plural(count, 'check')}, "
            f"{plural(len(findings), 'comparison')}, all within budget"
            + (f", but {less:,} less exact" if less else "")
        )
    failed = sum(not check.passed for check in report.checks)
    where = first.first_failure.where if first.first_failure else "what was not compared"
    return (
        f"NOT the same: {failed} of {plural(count, 'check')} {'fails' if failed == 1 else 'fail'}, "
        f"first at level {first.level}, in {shorten(printable(where), 40)}"
    )


def closest(report: Report) -> tuple[Check, Finding] | None:
    """The comparison closest to its budget in all of the report, or furthest over it."""
    pairs = [(check, check.worst) for check in report.checks if check.findings]
    return max(pairs, key=lambda pair: pair[1].ratio, default=None)


def plural(count: int, noun: str) -> str:
    """1 check, 1,234 checks."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """One line that no terminal, page or file takes for a command: the names may be a stranger's."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def shorten(text: str, length: int) -> str:
    """Leave out the middle of a longer text: names of layers differ at their ends."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def _times(factor: float) -> str:
    if factor >= 1e4:
        return f"{factor:.0e}×".replace("e+0", "e").replace("e+", "e")
    return f"{factor:.0f}×" if factor >= 10 else f"{factor:.2f}×"
