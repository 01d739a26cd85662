"""Whether XLA takes what the environment variable XLA_FLAGS says."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys

from recipe.system.errors import UserError

PROGRAM = "from jaxlib import xla_client; xla_client.CompileOptions()"  # where XLA reads its flags


def check() -> None:
    """Raise a `UserError` if XLA does not take the flags.

    XLA ends the process that has a flag it does not know, so it is asked in another one, in a tenth of a
    second. Without the variable, or without JAX, nothing is asked.
    """
    given = os.environ.get("XLA_FLAGS", "").strip()
    if given and (reason := _refusal(given)):
        raise UserError(f"XLA does not take XLA_FLAGS={given}: {reason}; correct the variable, or unset it")


@functools.cache
def _refusal(given: str) -> str:
    """What XLA says to these flags; "" where it takes them, or does not say why it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env=os.environ | {"XLA_FLAGS": given}, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    # E and F: the levels error and fatal of XLA's log; the first one is the reason
    reason = re.search(r"^[EF]\d{4} .*?\] (.*)$", done.stderr, re.MULTILINE)
    return reason[1].strip().rstrip(".") if done.returncode and reason else ""
