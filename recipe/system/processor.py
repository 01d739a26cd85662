"""Which processor this is. Linux tells in /proc/cpuinfo, in a section for each of its CPUs."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
NAME = ("model name", "cpu family", "model")  # some clouds hide the name; family and model remain


def processor_name() -> str:
    """Name, family and model of the first CPU; where Linux does not tell them, what Python knows."""
    fields = _fields()
    known = " ".join(fields[key] for key in NAME if key in fields)
    return known or platform.processor() or platform.machine()


def processor_digest() -> str:
    """Eight letters and digits for what decides which machine code runs here: the processor and its flags."""
    text = "\0".join((platform.machine(), processor_name(), *processor_flags()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@functools.cache
def processor_flags() -> tuple[str, ...]:
    """What the first CPU can do, as Linux on x86 names it: ("fpu", …, "avx2", …); empty elsewhere."""
    return tuple(_fields().get("flags", "").split())


def _fields() -> dict[str, str]:
    """Key → value of the first CPU's section; empty off Linux."""
    if not CPUINFO.exists():
        return {}
    section = CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in section.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
