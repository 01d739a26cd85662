"""The campaign's tables in docs/reliability.md."""

from __future__ import annotations

import pytest

from tests.stress.parts import PARTS
from tests.stress.table import BEGIN, END, PAGE, Row, insert, render


def test_the_page_has_a_place_for_the_tables():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert insert(text, {}, list(PARTS)) == text  # nothing stands there that a next run would not find


def test_a_table_takes_the_place_of_its_former_one_and_the_others_stay():
    page = insert(f"above\n\n{BEGIN}\n{END}\n\nbelow\n", {"a": "1 a", "b": "1 b"}, ["b", "a"])
    assert page == f"above\n\n{BEGIN}\n\n### `b`\n\n1 b\n\n### `a`\n\n1 a\n\n{END}\n\nbelow\n"
    again = insert(page, {"a": "2 a\n\n2 more"}, ["b", "a"])
    assert again == page.replace("1 a", "2 a\n\n2 more")
    assert insert(again, {"a": "1 a"}, ["b", "a"]) == page
    assert insert(page, {}, ["a"]) == page.replace("### `b`\n\n1 b\n\n", "")


def test_a_page_without_its_comments_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        insert("nothing", {}, [])


def test_a_table_has_a_line_for_each_row():
    rows = [Row("killed", 1200, "went on"), Row("full", 20, "one line"), Row("`| head`", 0, "saved")]
    table = render(rows, "today:")
    assert table.splitlines()[2:] == [
        "| what | times | what happened |",
        "|---|--:|---|",
        "| killed | 1,200 | went on |",
        "| full | 20 | one line |",
        r"| `\| head` | 0 | not tried: no time was left |",
    ]
