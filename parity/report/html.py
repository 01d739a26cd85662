"""The report as one page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from parity.report import plots, words
from parity.report.markup import tag
from parity.report.page import EVERY_DOT, STRIP_WIDTH, code, page, ratio_head, th, wide_table
from parity.result import Check, Report

WIDTHS = (46, STRIP_WIDTH + 10, 166, 90, 60)  # of the columns after the first
MUTANT_WIDTHS = (125, 170, 120, 115, 40)
MOST_LISTED = 5  # failures in a table; the plots and the JSON have all


def render(report: Report, mutants: list[dict[str, Any]] | None = None) -> str:
    """Write the page.

    Args:
      report: what `verify` found.
      mutants: what `mutants --json` wrote, each with "name", "file", "caught_by" (a check; empty if none
        did), "where" (layer or step that it named), "family" and "expected_family" (of causes), "seconds".
    """
    parts: list[Element | None] = [_top(report), _environment(report)]
    if report.checks:
        parts += [_checks(report), *_levels(report)]
    if mutants is not None:
        parts.append(_mutants(mutants))
    title = f"Parity: {'the same' if report.passed else 'NOT the same'}, {report.subject}"
    return page(title, [part for part in parts if part is not None])


def _top(report: Report) -> Element:
    """Verdict and, of a failure, where to look."""
    pair = words.closest(report)
    lines = [tag("p", report.subject)]
    first = report.first_failure
    if first is not None:
        lines.append(tag("p", tag("strong", "Look first at "), *_reason(first)))
        lines.append(tag("p", f"The check: level {first.level}, {first.name}, {first.precision}."))
    elif pair is not None and pair[1].error:
        check, finding = pair
        lines.append(
            tag(
                "p", f"Closest to its budget ({words.margin(finding)}): ", code(finding.where),
                f" in level {check.level}, {check.name}, {check.precision}.",
            )
        )  # fmt: skip
    lines.append(tag("p", f"It took {report.seconds:.0f} s.", class_="quiet small"))
    mark = "✓ " if report.passed else "✗ "
    heading = tag("h1", mark + words.verdict(report), class_="good" if report.passed else "bad")
    return tag("header", heading, *lines, class_="verdict" if report.passed else "verdict failed")


def _reason(check: Check) -> list[Element | str]:
    """Where a check fails first, by how much, and why."""
    first = check.first_failure
    if first is None:
        return [f"{check.name}: nothing was compared."]
    cause = check.cause
    return [
        code(first.where), f": {words.of_budget(first, check.unit)}. Likely cause: ",
        tag("strong", cause.words if cause else "none recognised"),
        f" ({cause.family})." if cause and cause.family else ".",
    ]  # fmt: skip


def _environment(report: Report) -> Element:
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in report.environment.items()]
    return tag("section", tag("h2", "Environment"), tag("dl", *pairs))


def _checks(report: Report) -> Element:
    """A row per check; the comparisons of all checks are drawn on one axis."""
    axis, scale = ratio_head(report)
    head = tag(
        "tr", th("check"), th("in"), tag("th", "error / budget", scale, scope="col"),
        th("its worst"), th("margin", "number"), th("", "tight"),
    )  # fmt: skip
    bodies = []
    for level, group in itertools.groupby(report.checks, lambda check: check.level):
        checks = list(group)
        title: Element | str = f"{level} · {report.titles[level]}"
        if any(map(_has_more, checks)):
            title = tag("a", title, href=f"#level-{level}")
        rows = [tag("tr", tag("th", title, colspan=6, scope="rowgroup"))]
        for check in checks:
            rows += _row(check, axis)
        bodies.append(tag("tbody", *rows))
    return tag(
        "section", tag("h2", "Checks"), tag("p", EVERY_DOT, class_="quiet small"),
        wide_table(WIDTHS, head, bodies),
    )  # fmt: skip


def _row(check: Check, axis: plots.RatioAxis) -> list[Element]:
    passed = "✓ less exact" if check.findings and words.less_exact(check.worst) else "✓ pass"
    result = (passed, "good") if check.passed else ("✗ FAIL", "bad")
    name = tag(
        "td", check.name, tag("div", f"n = {len(check.findings):,}, {check.unit}", class_="quiet small")
    )
    if not check.findings:
        empty = tag("td", "nothing was compared", colspan=3)
        return [tag("tr", name, tag("td", check.precision), empty, tag("td"))]
    worst = check.worst
    numbers = f"{words.number(worst.error)} of {words.number(worst.allowed)}"
    rows = [
        tag(
            "tr", name, tag("td", check.precision, class_="tight"),
            tag("td", plots.strip(check, axis), class_="dots"),
            tag("td", code(worst.where if worst.error else "–"), tag("div", numbers, class_="quiet small")),
            tag("td", words.margin(worst), class_="number"),
            tag("td", tag("strong", result[0]), class_=f"tight {result[1]}"),
        )
    ]  # fmt: skip
    if not check.passed:
        rows.append(tag("tr", tag("td", "First in ", *_reason(check), colspan=6, class_="reason")))
    return rows


def _levels(report: Report) -> list[Element]:
    """What does not fit into the table: failures one by one, and the plots."""
    sections = [tag("h2", "Layer by layer, step by step")]
    for level, group in itertools.groupby(report.checks, lambda check: check.level):
        checks = [check for check in group if _has_more(check)]
        if not checks:
            continue
        parts = [tag("h3", f"{level} · {report.titles[level]}")]
        parts += [_failures(check) for check in checks if not check.passed]
        steps = [check for check in checks if plots.is_trajectory(check) and plots.has_layers(check)]
        parts += [_trajectory(part) for part in plots.together(steps)]
        layers = [check for check in checks if not plots.is_trajectory(check) and plots.has_layers(check)]
        parts += [tag("figure", plots.layers(part)) for part in plots.abreast(layers)]
        sections.append(tag("section", *parts, id=f"level-{level}"))
    return sections if len(sections) > 1 else []


def _has_more(check: Check) -> bool:
    return not check.passed or plots.has_layers(check)


def _failures(check: Check) -> Element:
    """The first failures of a check, in the order of the data."""
    failed = words.failures(check)
    head = tag(
        "tr", th("over budget"), th("error", "number"), th("allowed", "number"), th("margin", "number")
    )
    rows = [
        tag(
            "tr", tag("td", code(finding.where)),
            *(tag("td", text, class_="number") for text in
              (words.number(finding.error), words.number(finding.allowed), words.margin(finding))),
        )
        for finding in failed[:MOST_LISTED]
    ]  # fmt: skip
    more = f", the first {MOST_LISTED} here" if len(failed) > MOST_LISTED else ""
    text = f"{len(failed)} of {words.plural(len(check.findings), 'comparison')} over budget{more}."
    return tag(
        "figure",
        tag("figcaption", tag("strong", f"{check.name}, {check.precision}", class_="bad"), f": {text}"),
        tag("table", tag("thead", head), tag("tbody", *rows)),
    )


def _trajectory(checks: Sequence[Check]) -> Element:
    """The lines with their key."""
    key = [
        tag("li", tag("i", class_=f"p-{check.precision}"), f"{check.precision}: {check.name}, {check.unit}")
        for check in checks
    ]
    caption = "Solid: the error after each step. Dashed: its budget."
    return tag("figure", tag("figcaption", caption), tag("ul", *key, class_="key"), plots.trajectory(checks))


def _mutants(mutants: Sequence[dict[str, Any]]) -> Element:
    """Each mutant, and what found it."""
    caught = sum(bool(mutant["caught_by"]) for mutant in mutants)
    named = sum(bool(mutant["caught_by"]) and _named(mutant) for mutant in mutants)
    text = f"{caught} of {len(mutants)} were caught, {named} with the right family of causes"
    if mutants:
        text += f"; {statistics.median(m['seconds'] for m in mutants):.1f} s each (median)"
    head = tag(
        "tr", th("bug"), th("planted in"), th("caught by"), th("named"), th("cause"), th("s", "number")
    )
    return tag(
        "section", tag("h2", "Planted bugs"), tag("p", f"{text}."),
        wide_table(MUTANT_WIDTHS, head, [tag("tbody", *map(_mutant, mutants))]), id="mutants",
    )  # fmt: skip


def _named(mutant: dict[str, Any]) -> bool:
    """Whether the family is the expected one, or one of those that are ("a or b")."""
    return mutant["family"] in mutant["expected_family"].split(" or ")


def _mutant(mutant: dict[str, Any]) -> Element:
    right = _named(mutant)
    expected = None if right else tag("div", f"expected {mutant['expected_family']}")
    cause = tag("td", mutant["family"] or "none", expected, class_="" if right else "bad")
    caught = tag("td", mutant["caught_by"]) if mutant["caught_by"] else tag(
        "td", tag("strong", "✗ not caught"), class_="bad"
    )  # fmt: skip
    return tag(
        "tr", tag("td", mutant["name"]), tag("td", code(mutant["file"])), caught,
        tag("td", code(mutant["where"] or "–")), cause,
        tag("td", f"{mutant['seconds']:.1f}", class_="number"),
    )  # fmt: skip
