"""Tables of any cells, for a terminal and as Markdown."""

from __future__ import annotations

import pytest

from recipe.output import grid


def test_columns_are_as_wide_as_their_widest_cell():
    rows = [("", "images/s", "×"), ("JAX", "1.5", "–"), ("PyTorch eager", 12, "")]
    assert grid.aligned(rows) == [
        "               images/s  ×",
        "JAX                 1.5  –",
        "PyTorch eager        12",  # no blanks at the end
    ]
    assert grid.aligned([]) == []
    with pytest.raises(ValueError, match="zip"):
        grid.aligned([("a", "b"), ("c",)])


def test_markdown_has_a_rule_of_the_headers_length():
    assert grid.markdown(("step", "batch"), [("train", 128), ("eval", 500)]) == (
        "| step | batch |\n| --- | --- |\n| train | 128 |\n| eval | 500 |"
    )
    table = grid.markdown(("layer", "ms", "GB"), [], numbers=True)
    assert table == "| layer | ms | GB |\n| --- | --: | --: |"


def test_a_bar_in_a_cell_does_not_end_it():
    assert grid.markdown_row(["a|b", "c"]) == "| a∣b | c |"
