"""Nothing from a file moves a cursor or turns the writing; all that people write stays."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from recipe.system.terminal import lines, message, printable, shown


@pytest.mark.parametrize(
    "text", ["", "cat", "Füchse", "日本", "می‌خواهم", "👩‍👧 and 🇨🇭", "a×b – c", 'it\'s "x"', r"C:\x"]
)
def test_what_people_write_stays(text: str):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("\x1b[31mred", r"\x1b[31mred"), ("a\rb\nc\t", r"a\rb\nc\t"), ("\x9b2J", r"\x9b2J"),
        ("\x00", r"\x00"),
        ("\u202etxt.exe", r"\u202etxt.exe"), ("\ud800", r"\ud800"), ("\u2028", r"\u2028"), ("\x7f", r"\x7f"),
    ],
)  # fmt: skip
def test_what_a_terminal_obeys_is_escaped(text: str, escaped: str):
    assert printable(text) == escaped


def test_no_character_that_is_left_is_obeyed_or_breaks_a_line():
    everything = printable("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(everything.splitlines()) == 1
    kinds = {unicodedata.category(character) for character in set(everything)}
    assert kinds & {"Cc", "Cs", "Zl", "Zp"} == set()
    assert {c for c in everything if unicodedata.category(c) == "Cf"} == {"\u200c", "\u200d"}
    everything.encode()


def test_lines_stay_lines():
    assert lines("one\n\x1btwo\n") == "one\n\\x1btwo\n"


def test_any_value_is_shown_in_a_few_characters():
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep, deep]
    for value in (deep, "x" * 10**6, 10**5000, {"a" * 1000: [1] * 1000}, "\x1b\n", object()):
        assert len(shown(value)) <= 120
        assert shown(value).isprintable()


def test_a_message_without_end_is_its_two_ends():
    assert message("short\n\x1b") == "short\n\\x1b"
    long = message(f"take {'9' * 10**6} away")
    assert long.startswith("take 999")
    assert long.endswith("999 away")
    assert len(long) < 10_000
