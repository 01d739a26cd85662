"""Keep off the terminal what orbax 0.12 and tensorstore print beside the error that they raise."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

_OF_ABSEIL = re.compile(r"exception=\w+\(['\"][A-Z_]+: ")  # ValueError('DATA_LOSS: …')


@contextlib.contextmanager
def first_error_only() -> Iterator[None]:
    """Report only the first array that can't be read or written: by the exception that orbax raises for it.

    orbax closes its event loop after the first error, while tensorstore's threads still report on the other
    arrays: Python prints "Event loop is closed" with a traceback for each, or asyncio logs that nobody asked
    for the error of a task. orbax also logs what it then raises, and every file of a folder that is no
    checkpoint.

    The loop can't be another one: orbax makes it by `asyncio.new_event_loop`, which takes a factory only from
    an event-loop policy, and Python 3.14 deprecates those.
    """
    _ignore_late_reports()
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)


@functools.cache
def _ignore_late_reports() -> None:
    """Put filters before `sys.unraisablehook` and asyncio's log, for good.

    A thread may report after orbax has returned.
    """
    show = sys.unraisablehook

    def show_others(unraisable: Any) -> None:
        late = isinstance(unraisable.exc_value, RuntimeError) and unraisable.object is None
        if not (late and str(unraisable.exc_value) == "Event loop is closed"):
            show(unraisable)

    sys.unraisablehook = show_others
    logging.getLogger("asyncio").addFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a message is none of asyncio's on the error of a task of orbax, or one of tensorstore's.

    A task of tensorstore's need not name it, but its errors begin with Abseil's name of their kind.
    """
    text = record.getMessage()
    late = text.startswith("Task exception was never retrieved")
    return not (late and ("orbax" in text or "tensorstore" in text or _OF_ABSEIL.search(text)))
