"""What the pages of reports share: their frame, their tables, and the axis of errors over budgets."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from parity.report.axis import RatioAxis
from parity.report.markup import tag, to_text
from parity.result import Report

STRIP_WIDTH = 140
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # the browser loads nothing
EVERY_DOT = (
    "Every dot is one of a check's n comparisons: error divided by budget, on a logarithmic axis. "
    "Right of the upright line, at 1, it fails; at the left edge the two sides are equal."
)


def page(title: str, parts: Sequence[Element]) -> str:
    """Write a page with a title and the project's style."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Path(__file__).with_name("report.css").read_text(encoding="utf-8")),
    )
    found = tag("html", head, tag("body", tag("main", *parts)), lang="en")
    return f"<!DOCTYPE html>\n{to_text(found)}\n"


def ratio_head(report: Report) -> tuple[RatioAxis, Element]:
    """The one axis of all checks' comparisons, and its labels for the table's head."""
    axis = RatioAxis([f for check in report.checks for f in check.findings], 0, STRIP_WIDTH)
    scale = tag("svg", *axis.labels(12), class_="strip", width=STRIP_WIDTH, height=16, aria_hidden="true")
    return axis, scale


def wide_table(widths: Sequence[int], head: Element, bodies: Sequence[Element]) -> Element:
    """A table whose first column takes what the others leave; a narrow window scrolls it."""
    columns = tag("colgroup", tag("col"), *(tag("col", width=width) for width in widths))
    return tag("div", tag("table", columns, tag("thead", head), *bodies), class_="wide")


def code(name: str) -> Element:
    """A name or path that may go on in another line after each of its dots and slashes."""
    parts = re.split(r"(?<=[./])", name)
    return tag("code", *itertools.chain.from_iterable((part, tag("wbr")) for part in parts))


def th(text: str, kind: str = "") -> Element:
    """The head of a column."""
    return tag("th", text, scope="col", class_=kind) if kind else tag("th", text, scope="col")
