"""What orbax 0.12 prints beside the error that it raises, kept from the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any


class _PatientLoop(asyncio.SelectorEventLoop):
    """An event loop that, once closed, ignores late reports instead of raising in the reporter's thread."""

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return None if self.is_closed() else super().call_soon_threadsafe(*args, **kwargs)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing about errors that nobody waits for any more."""


class _PatientPolicy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = _PatientLoop


@contextlib.contextmanager
def one_error_only() -> Iterator[None]:
    """Let the first array that can't be read or written be the only one that is heard of.

    orbax closes its event loop after the first error, while tensorstore's threads still report on the
    other arrays: without this, each prints "Event loop is closed" with a traceback. Nor does orbax log
    what it then raises, or every file of a folder that is no checkpoint.
    """
    policy, disabled = asyncio.get_event_loop_policy(), logging.root.manager.disable
    asyncio.set_event_loop_policy(_PatientPolicy())
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        asyncio.set_event_loop_policy(policy)
