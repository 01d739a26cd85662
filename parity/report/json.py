"""The report for programs: every number of it."""

from __future__ import annotations

import json
import math
from typing import Any

from parity.result import Check, Finding, Report

FORMAT = 1  # changes when a program that reads this file must


def render(report: Report, mutants: list[dict[str, Any]] | None = None) -> str:
    """Write the report as JSON.

    JSON has no words for what is not finite, so such a number is the string "nan", "inf" or "-inf";
    `float` reads every number here, with each of its bits.

    Args:
      report: what `verify` found.
      mutants: the mutants as `html.render` takes them.
    """
    content = {
        "format": FORMAT,
        "passed": report.passed,
        "subject": report.subject,
        "seconds": number(report.seconds),
        "environment": report.environment,
        "checks": [_check(check, report.titles[check.level]) for check in report.checks],
    }
    if mutants is not None:
        content["mutants"] = [
            {key: number(value) if isinstance(value, float) else value for key, value in mutant.items()}
            for mutant in mutants
        ]
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _check(check: Check, title: str) -> dict[str, Any]:
    first = check.first_failure
    return {
        "level": check.level,
        "level_name": title,
        "name": check.name,
        "precision": check.precision,
        "unit": check.unit,
        "passed": check.passed,
        "family": check.cause.family if check.cause else "",
        "cause": check.cause.words if check.cause else "",
        "worst": check.worst.where if check.findings else None,
        "first_failure": None if first is None else first.where,
        "findings": [_finding(finding) for finding in check.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "where": finding.where,
        "error": number(finding.error),
        "allowed": number(finding.allowed),
        "ratio": number(finding.ratio),
    }


def number(value: float) -> float | str:
    """A number, or "nan", "inf" or "-inf": JSON has no words for what is not finite."""
    value = float(value)
    return value if math.isfinite(value) else str(value)
