"""The logarithmic axis of errors over budgets, which the plots and the table of checks share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from parity.report.markup import tag
from parity.result import Finding

EDGE = 14  # room beside the logarithmic part of an axis, for zero and for what is not finite
LABEL_ROOM = 26  # between the numbers of an axis
MOST_DECADES = 6  # below the budget; smaller errors are drawn at the edge
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class RatioAxis:
    """Error over budget on a logarithmic axis, with a place at its left for 0 and at its right for ∞."""

    def __init__(self, findings: Sequence[Finding], left: float, right: float):
        logs = [math.log10(f.ratio) for f in findings if 0 < f.ratio < math.inf]
        self.low = max(math.floor(min(logs, default=-2)), -MOST_DECADES)
        self.low = min(self.low, -2)
        self.high = min(max(math.ceil(max(logs, default=1)), 1), MOST_DECADES)
        self.left, self.right = left, right

    def __call__(self, ratio: float) -> float:
        """Where a ratio is."""
        if ratio == 0:
            return self.left + EDGE / 2
        if ratio == math.inf:
            return self.right - EDGE / 2
        return self.at(min(max(math.log10(ratio), self.low), self.high))

    def at(self, decade: float) -> float:
        """Where a power of ten is."""
        room = self.right - self.left - 2 * EDGE
        return self.left + EDGE + room * (decade - self.low) / (self.high - self.low)

    def background(self, top: float, bottom: float) -> Iterator[Element]:
        """What is over the budget, the decades, and the budget."""
        budget = self.at(0)
        yield tag("rect", class_="over", x=budget, y=top, width=self.right - budget, height=bottom - top)
        for decade in range(self.low, self.high + 1):
            kind = "budget" if decade == 0 else "grid"
            yield tag("line", class_=kind, x1=self.at(decade), x2=self.at(decade), y1=top, y2=bottom)

    def labels(self, y: float) -> Iterator[Element]:
        """What the lines mean."""
        spacing = (self.at(self.high) - self.at(self.low)) / (self.high - self.low)
        every = max(1, math.ceil(LABEL_ROOM / spacing))
        yield tag("text", "0", class_="tick", x=self(0), y=y, text_anchor="middle")
        yield tag("text", "∞", class_="tick", x=self(math.inf), y=y, text_anchor="middle")
        for decade in range(self.low, self.high + 1):
            free = min(self.at(decade) - self(0), self(math.inf) - self.at(decade)) >= 0.75 * LABEL_ROOM
            if decade and decade % every == 0 and free:
                yield tag("text", power(decade), class_="tick", x=self.at(decade), y=y, text_anchor="middle")
        yield tag("text", "1", class_="tick strong", x=self.at(0), y=y, text_anchor="middle")


def power(decade: int) -> str:
    """10⁻³ and the like; near 1 the number itself."""
    return {-1: "0.1", 0: "1", 1: "10"}.get(decade) or "10" + str(decade).translate(SUPERSCRIPTS)
