"""JSON of any content is a value within bounds, or one reason; and fields are what they should be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recipe.system import json_values
from recipe.system.errors import UserError
from recipe.system.json_values import check, fields, integer, items, number, parse, text


@pytest.mark.parametrize("value", [None, [], {}, 1.5, "é", {"a": [1, {"b": None}]}, 2**70, "\ud800"])
def test_what_is_sound_is_read_as_json_reads_it(value: Any):
    assert parse(json.dumps(value)) == value
    assert parse(json.dumps(value).encode()) == value


def test_depth_is_bounded():
    deepest = json_values.DEEPEST
    assert parse("[" * deepest + "]" * deepest)
    with pytest.raises(ValueError, match=f"more than {deepest} lists or objects within each other"):
        parse("[" * (deepest + 1) + "]" * (deepest + 1))
    with pytest.raises(ValueError, match=f"more than {deepest} lists or objects within each other"):
        parse('{"a":' * (deepest + 1) + "1" + "}" * (deepest + 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "within each other"),
        ('{"a":' * 100_000, "within each other"),
        ("1" * 5_000, "too many digits"),
        ("-" + "1" * 5_000, "too many digits"),
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        ("nul", "it is no JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"\x00", "it is no JSON"),
        (" " * (json_values.MOST_BYTES + 1), "it has more than 16 MiB"),
    ],
)
def test_what_is_not_is_one_reason(content: str | bytes, reason: str):
    with pytest.raises(ValueError, match=rf"^[^\n]*{reason}[^\n]*$"):
        parse(content)


RULES = {"steps": integer(0, 2**31 - 1), "loss": number, "name": text, "mean": items(number, least=3, most=3)}
RIGHT = {"steps": 3, "loss": 0.5, "name": "é", "mean": [0, 1.5, 2]}


def test_right_fields_pass():
    check(RIGHT, RULES, "record")
    check({**RIGHT, "more": object()}, RULES, "record")
    check({"steps": 2**31 - 1}, RULES, "record", optional=("loss", "name", "mean"))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": 1.0}, "record.steps must be a whole number from 0 to 2,147,483,647, not 1.0"),
    ({"steps": True}, "record.steps must be a whole number from 0 to 2,147,483,647, not True"),
    ({"steps": -1}, "record.steps must be .*, not -1"),
    ({"steps": 2**70}, "record.steps must be .*, not 1180591620717411303424"),
    ({"steps": "3"}, "record.steps must be .*, not '3'"),
    ({"steps": None}, "record.steps must be .*, not None"),
    ({"loss": float("nan")}, "record.loss must be a finite number, not nan"),
    ({"loss": 10**400}, "record.loss must be a finite number, not 1000"),
    ({"loss": False}, "record.loss must be a finite number, not False"),
    ({"name": "\ud800"}, r"record.name must be a text of whole characters, not '\\ud800'"),
    ({"name": ["\x1b[2J"]}, r"record.name must be a text of whole characters, not \['\\x1b\[2J'\]"),
    ({"mean": [1, 2]}, r"record.mean must be a list of 3 values, not \[1, 2\]"),
    ({"mean": [1, 2, "3"]}, r"record.mean must be a list whose values are each a finite number, not \[1, 2"),
    ({"mean": {"0": 1}}, "record.mean must be a list of 3 values, not"),
    ({"name": "x" * 10**6 + "\ud800"}, "not 'xxxxxxx[^\n]{1,80}$"),
    ({"mean": [[[[[[[[[[1]]]]]]]]], 1]}, "record.mean must be a list of 3 values"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_field_is_named_in_one_short_line(change: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as caught:
        check({**RIGHT, **change}, RULES, "record")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_said_to_be_none(value: Any):
    with pytest.raises(UserError, match="record must be an object with fields, not"):
        check(value, RULES, "record")
    assert fields(value) == "an object with fields"


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match="record has no loss"):
        check({"steps": 1}, RULES, "record")
