"""Places that differ, by cause: what a report says once, with the number of places."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from parity.cause import UNKNOWN, Cause
from parity.comparison.findings import (
    BACKWARDS,
    BETWEEN,
    DIFFERENT,
    GRADIENT,
    INPUT_GRADIENT,
    LAYER,
    LESS_EXACT,
    TENSOR,
    Place,
)
from parity.comparison.report import Difference
from parity.result import Check

PATHS = re.compile(r"[A-Za-z_]\w*(?:\.\w+)+")  # dotted names: their numbers differ from place to place
END_TO_END = Cause(
    "unknown",
    "end to end alone: every layer and piece that was looked at is the same, so it is in what was not",
)

CONTRADICTION = Cause(
    "this tool",
    "float64 differs far beyond float32's budget, and float32 is the same: an error of this tool, not of the "
    "networks. Please report it",
)
FAR = 4.0  # float32's budgets; both runs err, so that twice one is no contradiction yet


def differences(checks: Sequence[Check]) -> tuple[Difference, ...]:
    """What failed, by cause, in PyTorch's order of execution.

    A gradient that differs at a place whose value differs already is a consequence, and so is what differs
    end to end when a layer or piece on its own does.
    """
    alone = [one for check in checks for one in _without_contradictions(check, checks) if not one.free]
    values = [one for one in alone if not one.backwards]
    gradients = [one for one in alone if one.backwards and not follows(one, values)]
    found = [*values, *gradients]
    if not found:
        free = [one for check in checks for one in _failed(check)]
        found = [dataclasses.replace(one, cause=END_TO_END) for one in free[:1]]
    return grouped(found)


def _without_contradictions(check: Check, checks: Sequence[Check]) -> list[Place]:
    """What failed; what differs in float64 and is the same in float32 has another cause."""
    low = {
        one.key: one for other in checks if (other.name, other.precision) == (check.name, "f32")
        for one in _places(other)
    }  # fmt: skip

    def contradicted(one: Place) -> bool:
        return (
            one.precision == "f64" and one.verdict == DIFFERENT and one.key in low
            and low[one.key].ratio <= 1 and one.error > FAR * low[one.key].allowed
        )  # fmt: skip

    return [
        dataclasses.replace(one, cause=CONTRADICTION, guess=False) if contradicted(one) else one
        for one in _failed(check)
    ]


def less_exact(checks: Sequence[Check]) -> tuple[Difference, ...]:
    """Places that are less exact, by cause."""
    found = [
        one for check in checks for one in _places(check)
        if one.verdict == LESS_EXACT and not (one.free or one.reason or one.backwards)
    ]  # fmt: skip
    return grouped(found)


def allowed(checks: Sequence[Check]) -> tuple[Difference, ...]:
    """Places that the user allows, by reason."""
    found = [one for check in checks for one in _places(check) if one.reason and not one.free]
    return grouped([dataclasses.replace(one, cause=Cause("allowed", one.reason)) for one in found])


def grouped(places: Iterable[Place]) -> tuple[Difference, ...]:
    """By cause, each place once: in float64 rather than float32, in eval rather than train."""
    groups: dict[tuple[str, str], dict[tuple[str, str], Place]] = {}
    for one in places:
        cause = one.cause or UNKNOWN
        words = PATHS.sub(lambda match: re.sub(r"\d+", "#", match.group()), cause.words)
        if cause.family == "precision":
            words = re.sub(r"\d[\d.e+-]*", "#", words)
        unknown = cause.family == "unknown"  # then places that only differ in a layer's number are together
        own = (re.sub(r"\d+", "#", one.torch), one.what) if unknown else ("", "")
        group = groups.setdefault((cause.family, f"{words}{own}"), {})
        group.setdefault((one.torch, one.flax), one)
    found = []
    for (family, _), group in groups.items():
        ordered = tuple(sorted(group.values(), key=lambda one: one.order))
        cause = ordered[0].cause or UNKNOWN
        found.append(Difference(family, cause.words, ordered, ordered[0].guess))
    return tuple(sorted(found, key=lambda difference: difference.first.order))


def follows(one: Place, values: Sequence[Place]) -> bool:
    """Whether a gradient differs because a value does.

    One that float64 finds the same is no consequence of a value that differs in float64.
    """
    values = [v for v in values if v.cleared or not one.cleared]
    sites = {v.torch for v in values} | {v.torch.rpartition(".")[0] for v in values if v.what == TENSOR}
    if one.torch in sites:
        return True
    if one.what == GRADIENT:
        owners = {name.rpartition(".")[0] for name in one.torch.split(" + ")}
        return any(_inside(site, owner) or _inside(owner, site) for site in sites for owner in owners)
    if any(_inside(site, one.torch) for site in sites):
        return True
    if one.what == BETWEEN + BACKWARDS or one.what == INPUT_GRADIENT:
        return any(
            (v.what == BETWEEN and v.order >= one.order) or (v.what == LAYER and _inside(one.torch, v.torch))
            for v in values
        )
    return False


def _inside(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def _places(check: Check) -> list[Place]:
    return [one for one in check.findings if isinstance(one, Place)]


def _failed(check: Check) -> list[Place]:
    return [one for one in _places(check) if one.failed]
