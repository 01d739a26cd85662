"""The report as one page that needs nothing else: no network, no script, no font."""

from __future__ import annotations

import itertools
from xml.etree.ElementTree import Element

from parity.comparison.report import CompareReport, Difference
from parity.comparison.text import heading, listed, verdict_of
from parity.report import plots, words
from parity.report.markup import tag
from parity.report.page import EVERY_DOT, STRIP_WIDTH, code, page, ratio_head, th, wide_table

WIDTHS = (46, STRIP_WIDTH + 10, 220, 90, 90)  # of the columns after the first
PLACE_WIDTHS = (170, 120, 90, 90, 60)
MOST_LISTED = 12


def render(report: CompareReport) -> str:
    """Write the page."""
    mark = "✓ " if report.passed else "✗ "
    top = tag(
        "header", tag("h1", mark + verdict_of(report), class_="good" if report.passed else "bad"),
        tag("p", report.subject), class_="verdict" if report.passed else "verdict failed",
    )  # fmt: skip
    parts: list[Element | None] = [top]
    for title, found in (
        ("Different", report.differences), ("Less exact", report.less_exact), ("Allowed", report.allowed),
    ):  # fmt: skip
        if found:
            parts.append(tag("section", tag("h2", title), *(_difference(one) for one in found)))
    parts.append(_compared(report))
    for title, texts in listed(report):
        parts.append(tag("section", tag("h2", title), tag("ul", *(tag("li", text) for text in texts))))
    facts = [tag("div", tag("dt", name), tag("dd", value)) for name, value in report.environment.items()]
    parts.append(tag("section", tag("h2", "Environment"), tag("dl", *facts, class_="facts")))
    if report.mapping:
        text = tag("pre", report.mapping, class_="small")
        parts.append(tag("section", tag("h2", "Mapping"), tag("details", tag("summary", "as Python"), text)))
    state = "the same" if report.passed else "NOT the same"
    return page(f"Parity: {state}, {report.subject}", [part for part in parts if part is not None])


def _difference(difference: Difference) -> Element:
    head = tag(
        "tr",
        th("PyTorch"),
        th("Flax"),
        th("what"),
        th("error", "number"),
        th("of", "number"),
        th("precision"),
    )
    rows = [
        tag(
            "tr", tag("td", code(one.torch), tag("div", one.kind, class_="quiet small")),
            tag("td", code(one.flax)),
            tag("td", one.what, tag("div", one.verdict, class_="quiet small")),
            tag("td", words.number(one.error), class_="number"),
            tag("td", words.number(one.size), class_="number"),
            tag("td", one.precision),
        )
        for one in difference.places[:MOST_LISTED]
    ]  # fmt: skip
    left = len(difference.places) - MOST_LISTED
    more = tag("p", f"and {left} more", class_="quiet small") if left > 0 else None
    return tag(
        "figure",
        tag("figcaption", tag("strong", heading(difference))),
        wide_table(PLACE_WIDTHS, head, [tag("tbody", *rows)]),
        more,
    )


def _compared(report: CompareReport) -> Element:
    axis, scale = ratio_head(report)
    head = tag(
        "tr", th("check"), th("in"), tag("th", "error / budget", scale, scope="col"), th("its worst"),
        th("margin", "number"), th("", "tight"),
    )  # fmt: skip
    bodies = []
    for level, group in itertools.groupby(report.checks, lambda check: check.level):
        rows = [tag("tr", tag("th", f"{level} · {report.titles[level]}", colspan=6, scope="rowgroup"))]
        for check in group:
            worst = check.worst
            verdict = ("✓ same", "good") if check.passed else ("✗ different", "bad")
            name = tag("td", check.name, tag("div", f"n = {len(check.findings):,}", class_="quiet small"))
            rows.append(
                tag(
                    "tr", name, tag("td", check.precision, class_="tight"),
                    tag("td", plots.strip(check, axis), class_="dots"),
                    tag("td", code(worst.where if worst.error else "–")),
                    tag("td", words.margin(worst), class_="number"),
                    tag("td", tag("strong", verdict[0]), class_=f"tight {verdict[1]}"),
                )
            )  # fmt: skip
        bodies.append(tag("tbody", *rows))
    return tag(
        "section",
        tag("h2", "Compared"),
        tag("p", EVERY_DOT, class_="quiet small"),
        wide_table(WIDTHS, head, bodies),
    )
