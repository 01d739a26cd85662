"""Text from files, made fit for a terminal."""

from __future__ import annotations

import reprlib
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 3
LONGEST = 120  # characters of a value that is shown
LONGEST_MESSAGE = 8_000  # characters; one that names the tensors of a whole network has as many
_JOINERS = ("\u200c", "\u200d")  # of letters in Persian and Hindi, and of emoji


def printable(text: str) -> str:
    """The text with escapes (\\x1b, \\u202e) for what could move a cursor, turn the writing or break a line.

    Letters, signs and spaces of every language stay, and so do emoji.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else repr(c)[1:-1] for c in text)


def lines(text: str) -> str:
    """`printable` for each line of a text that has several."""
    return "\n".join(map(printable, text.split("\n")))


def message(text: str) -> str:
    """`lines`, without the middle of a text that nobody would read to its end, such as an endless number."""
    text = lines(text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} … {text[-half:]}"


def shown(value: Any) -> str:
    """A value in a few printable characters, whatever its size and depth."""
    try:
        text = printable(_SHORT.repr(value))
    except ValueError:  # an integer of more than 4,300 digits
        return "an enormous number"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
