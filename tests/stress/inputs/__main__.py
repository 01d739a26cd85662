"""Repeat one damaged input: python -m tests.stress.inputs --reader NAME --seed N --number N."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.stress.inputs import sandbox
from tests.stress.inputs.campaign import READERS


def main() -> int:
    """Read it again; 1 if the product breaks a promise."""
    readers = {reader.name: reader for reader in READERS}
    flags = argparse.ArgumentParser(prog="python -m tests.stress.inputs", description=__doc__)
    flags.add_argument("--reader", choices=list(readers), required=True)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--number", type=int, required=True)
    options = flags.parse_args()
    keep = Path(tempfile.mkdtemp(prefix="damaged-"))
    try:
        (outcome,) = sandbox.run(readers[options.reader], options.seed, [options.number], keep)
    except AssertionError as error:
        print(error)
        return 1
    keep.rmdir()
    print(f"{outcome.file} ({outcome.damage}): {outcome.result} {outcome.line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
