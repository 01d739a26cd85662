"""The report for programs: every number of it."""

from __future__ import annotations

import json
from typing import Any

from parity.comparison.findings import Place
from parity.comparison.report import CompareReport, Difference
from parity.report.json import number

FORMAT = 1  # changes when a program that reads this file must


def render(report: CompareReport) -> str:
    """Write the report as JSON; numbers that are not finite are strings, as in verify's."""
    content = {
        "format": FORMAT,
        "same": report.passed,
        "subject": report.subject,
        "seconds": number(report.seconds),
        "environment": report.environment,
        "differences": [_difference(one) for one in report.differences],
        "less_exact": [_difference(one) for one in report.less_exact],
        "allowed": [_difference(one) for one in report.allowed],
        "not_compared": list(report.undone),
        "not_looked_at": list(report.unseen),
        "notes": list(report.notes),
        "checks": [
            {
                "level": check.level, "level_name": report.titles[check.level], "name": check.name,
                "precision": check.precision, "unit": check.unit, "same": check.passed,
                "places": [_place(one) for one in check.findings if isinstance(one, Place)],
            }
            for check in report.checks
        ],
        "mapping": report.mapping,
    }  # fmt: skip
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "family": difference.family, "cause": difference.words, "guess": difference.guess,
        "places": [_place(one) for one in difference.places],
    }  # fmt: skip


def _place(one: Place) -> dict[str, Any]:
    found: dict[str, Any] = {
        "what": one.what, "torch": one.torch, "flax": one.flax, "kind": one.kind, "precision": one.precision,
        "verdict": one.verdict, "error": number(one.error), "allowed": number(one.allowed),
        "size": number(one.size), "ratio": number(one.ratio),
    }  # fmt: skip
    if one.reason:
        found["allowed_because"] = one.reason
    return found
