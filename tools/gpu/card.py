"""Which GPU there is. Asked of the driver, so that no framework need be there yet."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

from recipe.system.errors import UserError

QUERY = "--query-gpu=name,memory.total,driver_version"
NONE = "there is no NVIDIA GPU here"
HINT = "--rehearse runs everything tiny on the CPU"


class Card(NamedTuple):
    """A GPU."""

    name: str
    memory: str  # as the driver says it: "81559 MiB"
    driver: str


REHEARSAL = Card("none (a rehearsal on the CPU)", "", "")


def find() -> Card:
    """The first GPU.

    Raises:
      UserError: if there is none.
    """
    try:
        done = subprocess.run(
            ["nvidia-smi", QUERY, "--format=csv,noheader"], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{NONE}: nvidia-smi, which comes with the driver, is not installed; {HINT}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"nvidia-smi does not answer; {HINT}") from error
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or lines[0].count(",") < 2:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[0]
        raise UserError(f"{NONE}: nvidia-smi says {said!r}; {HINT}")
    name, memory, driver = (part.strip() for part in lines[0].rsplit(",", 2))
    return Card(name, memory, driver)
