"""Errors that a person can cause and mend: one line that says what is wrong and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Wrong input. `main.py` prints the message as one line and exits with status 2."""


class Damaged(UserError):
    """A file of this project that is not whole, so that an older one may be taken in its place."""


class DatasetUnavailable(UserError):
    """The dataset was not found, and was not or could not be downloaded (a damaged one is a `UserError`)."""


def first_line(error: BaseException) -> str:
    """An error of a stranger's code in one line: its class and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def is_of_environment(error: ValueError) -> bool:
    """Whether JAX raised it, when it was imported, for a value of a variable such as JAX_ENABLE_X64."""
    return bool(re.search(r" for (environment|JAX flag) ", str(error)))


def nearest(name: str, valid: Iterable[str]) -> str:
    """The hint that ends an "unknown name" message: the nearest valid name, or all of them."""
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are: {', '.join(names)}"


def choice(what: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is valid; otherwise raise a `UserError` that names the nearest valid one."""
    names = list(valid)
    if name not in names:
        raise UserError(f"unknown {what} {name!r}; {nearest(name, names)}")
    return name
