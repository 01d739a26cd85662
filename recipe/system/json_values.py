"""JSON that anybody may have written: parsed and checked before anything is made of it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipe.system import plain
from recipe.system.errors import UserError
from recipe.system.terminal import shown

MOST_BYTES = 1 << 24  # a record of a network with 20,000 class names has 1 MB
DEEPEST = 32  # objects and lists within each other

Rule = Callable[[Any], str]  # a value → what has to be there instead; "" where it is right


def read(path: Path) -> Any:
    """`parse` a file.

    Raises:
      ValueError: the reason, in one line, also where it is no file.
      OSError: if it can't be read.
    """
    return parse(plain.read(path, MOST_BYTES))


def parse(text: str | bytes, *, most_bytes: int = MOST_BYTES, deepest: int = DEEPEST) -> Any:
    """`json.loads`, bounded in size and depth.

    Args:
      text: characters, or UTF-8.
      most_bytes: of the text.
      deepest: lists and objects within each other.

    Raises:
      ValueError: the reason, in one line, whatever is wrong.
    """
    if len(text) > most_bytes:
        raise ValueError(f"it has more than {most_bytes >> 20} MiB")
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    except RecursionError:
        raise ValueError(_too_deep(deepest)) from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    except ValueError as error:  # Python reads no integer of more than 4,300 digits
        raise ValueError("it holds a number with too many digits") from error
    level = [value]
    for _ in range(deepest):
        level = [inner for outer in level for inner in _within(outer)]
        if not level:
            return value
    raise ValueError(_too_deep(deepest))


def check(value: Any, rules: Mapping[str, Rule], what: str = "", *, optional: Sequence[str] = ()) -> None:
    """Check that a value is an object whose fields are as they should be.

    Args:
      value: what was parsed.
      rules: the fields that it must have, and what each of them must be; others are not looked at.
      what: the value's name, with which the message begins.
      optional: fields that may be missing.

    Raises:
      UserError: names the first field that is wrong.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{what or 'it'} must be an object with fields, not {shown(value)}")
    for name, rule in rules.items():
        if name not in value:
            if name in optional:
                continue
            raise UserError(f"{what or 'it'} has no {name}")
        if wanted := rule(value[name]):
            full = f"{what}.{name}" if what else name
            raise UserError(f"{full} must be {wanted}, not {shown(value[name])}")


def integer(low: int, high: int) -> Rule:
    """A whole number from `low` to `high`; 1.0 and true are none."""
    wanted = f"a whole number from {low:,} to {high:,}"

    def of_integer(value: Any) -> str:
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return "" if right else wanted

    return of_integer


def number(value: Any) -> str:
    """A finite number that fits into a float."""
    return "" if not real(value) and math.isfinite(value) else "a finite number"


def real(value: Any) -> str:
    """A number that fits into a float; infinities and NaN are, too."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # of an integer above 1.8e308
            float(value)
            return ""
    return "a number"


def text(value: Any) -> str:
    """A text that can be written to a file."""
    if isinstance(value, str):
        with contextlib.suppress(UnicodeEncodeError):  # of half of a character, a "lone surrogate"
            value.encode()
            return ""
    return "a text of whole characters"


def items(rule: Rule, *, least: int = 0, most: int = MOST_BYTES) -> Rule:
    """A list (or tuple) of so many values that each follow a rule."""
    count = f"{least}" if least == most else f"{least:,} to {most:,}"

    def of_list(value: Any) -> str:
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            return f"a list of {count} values"
        return next(
            (f"a list whose values are each {wanted}" for item in value if (wanted := rule(item))), ""
        )

    return of_list


def fields(value: Any) -> str:
    """An object with fields of any kind."""
    return "" if isinstance(value, Mapping) else "an object with fields"


def each(rule: Rule) -> Rule:
    """An object whose fields, of any names, each follow a rule."""

    def of_fields(value: Any) -> str:
        if not isinstance(value, Mapping):
            return "an object with fields"
        return next(
            (
                f"an object whose fields are each {wanted}"
                for item in value.values()
                if (wanted := rule(item))
            ),
            "",
        )

    return of_fields


def _within(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _too_deep(deepest: int) -> str:
    return f"it has more than {deepest} lists or objects within each other"
