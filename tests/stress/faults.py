"""The library that stands between a program and its file system (faults.c): compiled, and told what to do."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
VARIABLES = ("FAULTS_BELOW", "FAULTS_AT", "FAULTS_DO", "FAULTS_LOG", "FAULTS_COUNT")


@dataclasses.dataclass(frozen=True)
class Faults:
    """What befalls the operations that change something below a folder; by default nothing."""

    below: Path
    at: int = 0  # the number of an operation, counted from 1
    do: str | int = "before"  # kill the process before, within or after it; an errno: all from there on fail
    log: Path | None = None  # where a record of every operation goes
    count: Path | None = None  # where their number goes, in 8 bytes

    def variables(self) -> dict[str, str]:
        """What says so, in the environment of a process with the library."""
        values = (str(self.below), str(self.at), str(self.do), self.log, self.count)
        return {name: str(value) for name, value in zip(VARIABLES, values, strict=True) if value}

    def arm(self) -> None:
        """Let it befall this process, from here on."""
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ |= self.variables()
        for name, value in self.variables().items():  # where the C library looks
            os.putenv(name, value)
        ctypes.CDLL(None).faults_arm()

    def __str__(self) -> str:
        what = f"errno {self.do} from" if isinstance(self.do, int) else f"killed {self.do}"
        return f"{what} operation {self.at}"


def library(folder: Path) -> Path:
    """Compile the library into a folder, with the compiler of the native kernels, and return its path."""
    path = folder / "faults.so"
    compiler = shutil.which(os.environ.get("CXX", "g++")) or "g++"
    subprocess.run(
        [compiler, "-xc", "-O1", "-shared", "-fPIC", str(SOURCE), "-o", str(path), "-ldl"], check=True
    )
    return path


def counted(path: Path) -> int:
    """The number of operations in a file that `Faults.count` names."""
    return int.from_bytes(path.read_bytes()[:8], "little")
