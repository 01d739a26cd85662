"""The table of levels.

A new level is a row here; a new check is yielded by the function that its level's row names.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from parity.result import Check
from parity.verify.case import Case
from parity.verify.levels import (
    continuation,
    input_pipeline,
    networks,
    optimizer_step,
    predictions,
    processes,
    structure,
    trajectory,
)
from parity.verify.training_runs import WIDTH


class Level(NamedTuple):
    """A group of checks that need the same things to be right before them."""

    title: str  # in reports
    checks: Callable[[Case], Iterator[Check]]  # each is yielded when it is done


@functools.lru_cache(maxsize=2)  # so that levels 7, 9 and 10 have one case, and with it one learning rate
def thin(case: Case) -> Case:
    """The case at the width and image size of trajectories, which start from the recipe's weights."""
    width = min(WIDTH, case.description.width)
    description = dataclasses.replace(case.description, width=width, image_size=32)
    return dataclasses.replace(case, description=description, model={})


LEVELS = {
    1: Level("structure", structure.check),
    2: Level("evaluation forward", networks.evaluation),
    3: Level("training forward", networks.training),
    4: Level("loss and gradients", networks.gradients),
    5: Level("optimizer step", optimizer_step.check),
    6: Level("input pipeline", input_pipeline.check),
    7: Level("trajectory", lambda case: trajectory.check(thin(case))),
    8: Level("evaluation on data", predictions.check),
    9: Level("continuation", lambda case: continuation.check(thin(case))),
    10: Level("several processes", lambda case: processes.check(thin(case))),
}
CHEAP_FIRST = (1, 6, 5, 2, 3, 4, 8, 7, 9, 10)  # a failure is often found within seconds
