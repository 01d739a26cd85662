"""What evaluation and prediction print, read back."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipe.output import tables

NAMES = ["a cat.png", 'shelf/one, "two".jpg', "日本.png", "cut.png"]
REASON = 'truncated, "cut"'
RESULTS: list[tables.Prediction] = [
    [("cat", 0.8125), ("dog", 0.1875)],
    [("dog", 1.0), ("cat", 1.25e-9)],
    [("cat", 1 / 3), ("dog", float(np.float32(0.1)))],
    REASON,
]


@given(st.integers(1, 6), st.data())
def test_confusion_matrix_against_a_loop(classes: int, data: st.DataObject):
    pair = st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1))
    pairs = data.draw(st.lists(pair, max_size=30))
    expected = np.zeros((classes, classes), np.int64)
    for true, predicted in pairs:
        expected[true, predicted] += 1
    labels, predictions = np.array(pairs, np.int32).reshape(-1, 2).T
    matrix = tables.confusion_matrix(labels, predictions, classes)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(("label", "prediction"), [(3, 0), (0, 3), (-1, 0), (0, -1)])
def test_confusion_matrix_refuses_unknown_classes(label: int, prediction: int):
    with pytest.raises(ValueError, match="invalid entry"):
        tables.confusion_matrix(np.array([label]), np.array([prediction]), 3)


@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), max_size=4), st.integers(1, 9))
def test_top_k_against_sorted(rows: list[list[int]], k: int):
    """Small integers make many ties, which the class index decides."""
    probabilities = np.array(rows, np.float32).reshape(-1, 5) / 20
    for row, top in zip(probabilities, tables.top_k(probabilities, "abcde", k), strict=True):
        order = sorted(range(5), key=lambda i: (-row[i], i))[:k]
        assert top == [("abcde"[i], float(row[i])) for i in order]


def test_json_reads_back():
    *read, unread = json.loads(tables.predictions(NAMES, RESULTS, "json"))
    assert read == [
        {"image": name, "top": [{"class": label, "probability": p} for label, p in top]}
        for name, top in zip(NAMES[:3], RESULTS[:3], strict=True)
    ]
    assert unread == {"image": "cut.png", "top": [], "error": REASON}


def test_csv_reads_back():
    """To the last bit, although no number has an exponent and a name has a comma and quotes."""
    text = tables.predictions(NAMES, RESULTS, "csv")
    header, *rows, unread = csv.reader(io.StringIO(text))
    assert header == ["image", "rank", "class", "probability", "error"]
    assert [(name, int(rank), label, float(p), error) for name, rank, label, p, error in rows] == [
        (name, rank, label, p, "")
        for name, top in zip(NAMES[:3], RESULTS[:3], strict=True)
        for rank, (label, p) in enumerate(top, 1)
    ]
    assert not any("e" in row[3] for row in rows)
    assert unread == ["cut.png", "", "", "", REASON]


def test_table_stands_in_columns():
    names = ["a.png", "long name.png", "cut.png"]
    assert tables.predictions(names, [*RESULTS[:2], REASON], "table").splitlines() == [
        "a.png          cat 81.2%   dog 18.8%",
        "long name.png  dog 100.0%  cat 0.0%",
        'cut.png        error: truncated, "cut"',
    ]


def test_per_class_against_a_count_by_hand():
    """A class without examples has no accuracy; the last line sums up."""
    labels = np.array([0, 0, 0, 0, 2, 2, 1])
    predictions = np.array([0, 2, 2, 1, 2, 2, 0])
    assert tables.per_class(labels, predictions, ["cat", "automobile", "dog", "ship"]).splitlines() == [
        "class        count  correct  accuracy  most confused with",
        "cat              4        1    0.2500  dog (2)",
        "automobile       1        0    0.0000  cat (1)",
        "dog              2        2    1.0000  –",
        "ship             0        0         –  –",
        "all              7        3    0.4286",
    ]


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_file_name_that_is_not_utf8_can_be_printed(output: str):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")  # as Python reads it from the file system
    assert "caf?.png" in tables.predictions([name], RESULTS[:1], output).encode().decode()


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_names_from_files_are_printed_without_what_a_terminal_obeys(output: str):
    name = "\x1b[2J\x9b\u202e\n.png"
    results: list[tables.Prediction] = [[(name, 0.5)], f"no image: {name}"]
    text = tables.predictions([name, name], results, output)
    assert text.replace("\n", "").isprintable()
    if output == "json":
        found = json.loads(text)
        assert found[0]["image"] == found[0]["top"][0]["class"] == name
    else:
        assert len(text.splitlines()) == (2 if output == "table" else 3)
        assert r"\x1b[2J\x9b\u202e\n.png" in text


@pytest.mark.parametrize(
    ("output", "text"), [("table", ""), ("json", "[]"), ("csv", "image,rank,class,probability,error")]
)
def test_no_image_is_no_error(output: str, text: str):
    assert tables.predictions([], [], output) == text
