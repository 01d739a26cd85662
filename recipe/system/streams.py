"""Standard input, output and errors, which whoever started the program may have closed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO


def open_closed() -> None:
    """Open the null device in the place of standard streams that are closed.

    Else the next file that is opened would get their number, and what a library prints would land in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest number that is free
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 (until the end)


def silence(stream: TextIO) -> None:
    """Lead a standard stream to the null device, once its reader is gone: Python flushes it at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    except (OSError, ValueError):  # a stream that is no file, such as a test's
        pass
    finally:
        os.close(null)


def tell(text: str) -> None:
    """Print a line to standard error, behind what was printed before; nobody may be there to read either."""
    for stream, last in ((sys.stdout, ""), (sys.stderr, f"{text}\n")):
        try:
            stream.write(last)
            stream.flush()
        except OSError:
            silence(stream)
