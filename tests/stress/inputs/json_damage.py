"""Ways to damage JSON so that it stays JSON, or nearly: extreme values, strange and missing fields."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

ESCAPE = "\x1b[2J\nerror: all is well\u202e"
TOKENS = (
    "1e999",
    "-1e999",
    "1e-999",
    "NaN",
    "9" * 5_000,
    "0x10",
    "01",
    "1.",
    "-0.0",
    "[" * 3_000,
    '{"a":' * 500,
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 2**31, 2**63, 2**70, -(2**70), 1e308, "", "0", "x" * 70_000, ESCAPE,
    "\ud800", "\0", "../../etc/passwd", "/dev/zero", [], {}, [[]], [None], {"": None}, [0] * 3,
    ["a"] * 50_000,
)  # fmt: skip
_MARK = "\ue000"  # stands for a token until the text is written


def is_json(content: bytes) -> bool:
    """Whether it is an object or a list in JSON."""
    try:
        return content.lstrip()[:1] in (b"{", b"[") and bool(json.loads(content)) | True
    except (ValueError, RecursionError):
        return False


def damage(content: bytes, draw: Random) -> bytes:
    """Damage JSON."""
    return draw.choice([_change_number, _change_value, _change_value, _change_fields])(content, draw)


def _change_number(content: bytes, draw: Random) -> bytes:
    """A number in the text is an extreme one, or none."""
    numbers = list(re.finditer(rb"(-?\d+)(\.\d+)?([eE][-+]?\d+)?", content))
    if not numbers:
        return _change_value(content, draw)
    number = draw.choice(numbers)
    token = draw.choice([*TOKENS, str(2**70), "-1", "0", "0.5", str(int(number[1]) + 1)])
    return content[: number.start()] + token.encode() + content[number.end() :]


def _change_value(content: bytes, draw: Random) -> bytes:
    """A value anywhere is of another type, or extreme."""
    tree = json.loads(content)
    outer, key = draw.choice(_places(tree) or [([tree], 0)])
    value = draw.choice([*VALUES, *([_MARK] * 5), _nested(draw.choice([5, 40, 900]))])
    outer[key] = value
    return _text(tree, draw.choice(TOKENS))


def _change_fields(content: bytes, draw: Random) -> bytes:
    """A field is gone, there is one more, it is there twice, or has another name."""
    tree = json.loads(content)
    objects = [
        inner for inner in [tree, *(outer[key] for outer, key in _places(tree))] if isinstance(inner, dict)
    ]
    objects = [one for one in objects if one]
    if not objects:
        return _change_value(content, draw)
    chosen = draw.choice(objects)
    key = draw.choice(list(chosen))
    match draw.randrange(4):
        case 0:
            del chosen[key]
        case 1:
            chosen[draw.choice(["new", "", ESCAPE, key + "x", "__class__"])] = draw.choice(VALUES)
        case 2:
            chosen[draw.choice([key.upper(), key + " ", "\ud800", ESCAPE])] = chosen.pop(key)
        case 3:  # twice: the later one counts
            text = _text(tree, "")
            field = json.dumps(key).encode() + b":"
            return text.replace(field, field + json.dumps(draw.choice(VALUES)).encode() + b"," + field, 1)
    return _text(tree, "")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every value's list or object, and where it is in there."""
    found: list[tuple[Any, Any]] = []
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        found += [(tree, key), *_places(tree[key])]
    return found


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def _text(tree: Any, token: str) -> bytes:
    """As JSON; surrogates are escaped."""
    return json.dumps(tree, separators=(",", ":")).replace(json.dumps(_MARK), token).encode()
