"""HTML and SVG as trees, so that every name is escaped and every element closed."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from parity.report.words import printable

Child = Element | str | None


def tag(name: str, /, *children: Child, **attributes: str | float) -> Element:
    """Make an element.

    Args:
      name: of the element.
      *children: elements and text in their order; None is left out.
      **attributes: `text_anchor` is written text-anchor, and `class_` class; floats get two decimals.
    """
    element = Element(name)
    for key, value in attributes.items():
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        element.set(key.rstrip("_").replace("_", "-"), printable(text))
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + printable(child)
        else:
            element.text = (element.text or "") + printable(child)
    return element


def to_text(element: Element) -> str:
    """Write a tree as HTML; an SVG in it is valid XML too."""
    return tostring(element, encoding="unicode", method="html")
