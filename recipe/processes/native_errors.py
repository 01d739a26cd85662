"""One line in the place of a stack trace, where C++ code ends the process.

When process 0 of a JAX run goes, its coordination service goes with it, and in every other process JAX's C++
code writes some thirty lines to standard error and aborts. Nothing in the process can keep it from that. So
standard error leads through a small process of its own, which knows these lines. It ends with the one that it
serves.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

# how the lines of XLA's C++ log begin that end a process
FATAL = re.compile(rb"^(F|E(?=.*coordination_service))\d{4} [\d:.]+ +\d+ ")
LEADER = re.compile(rb"leader task|coordination service")
UNHEALTHY = re.compile(rb"tasks are unhealthy[^\n]*\n([\d\n ]+)")


def replace_by_one_line() -> None:
    """Lead this process's standard error through a process that shortens what C++ code says at its end."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # fatal lines alone; read when the backend starts
    sys.stderr.flush()
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=sys.stderr.fileno(),
        start_new_session=True,  # so that Ctrl-C does not end it before the last words
    )  # fmt: skip
    assert reader.stdin
    os.dup2(reader.stdin.fileno(), sys.stderr.fileno())
    reader.stdin.close()


def last_words(said: bytes) -> bytes:
    """What a person needs of what XLA's C++ code says when it ends a process."""
    if b"RegisterTask" in said:
        return (
            b"error: not all processes of the run came together within a minute: start all of them, with "
            b"the same --coordinator and --processes, where they can reach it\n"
        )
    if found := UNHEALTHY.search(said):
        who = ", ".join(found[1].decode().split())
    elif LEADER.search(said):
        who = "0"
    else:
        return said
    return (
        f"error: process {who} has gone; nothing that is saved is lost: the same command goes on, with any "
        "number of processes\n"
    ).encode()


def _relay() -> None:
    held = b""
    for line in sys.stdin.buffer:
        if held or FATAL.match(line):
            held += line
        else:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    sys.stdout.buffer.write(last_words(held))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    _relay()
