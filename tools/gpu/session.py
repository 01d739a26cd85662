"""Parts and their pieces, run one after the other within a time. A piece that has its result is skipped."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from recipe.system.errors import UserError, first_line
from tools.gpu import commands
from tools.gpu.card import Card
from tools.gpu.commands import Done
from tools.gpu.results import Content, Results

# Both frameworks have to find the GPU: a JAX that is asked for one says so where there is none.
ON_GPU = {"JAX_PLATFORMS": "cuda,cpu", "CUDA_VISIBLE_DEVICES": "0"}
ON_CPU = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}


@dataclasses.dataclass(frozen=True)
class Session:
    """One call of the command.

    Attributes:
      results: of this call and those before.
      card: the GPU.
      facts: versions and devices.
      find_cifar: finds CIFAR-10, and returns the folder that holds cifar10/.
      part_seconds: what a part has in a call.
      deadline: of the whole call, by `time.monotonic`.
    """

    results: Results
    card: Card
    facts: Mapping[str, str]
    find_cifar: Callable[[], Path]
    part_seconds: float = 480.0
    deadline: float = math.inf
    began: str = dataclasses.field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    )

    @property
    def rehearsal(self) -> bool:
        """Whether everything is tiny, and on the CPU."""
        return self.results.rehearsal

    @property
    def work(self) -> Path:
        """The folder of workdirs and logs."""
        return self.results.folder / "work"

    def python(self, name: str, arguments: Sequence[str], seconds: float, **environment: str) -> Done:
        """Run Python with arguments, on the GPU; its output goes into a log of that name."""
        log = self.work / "logs" / f"{name.replace(' ', '-')}.log"
        where = ON_CPU if self.rehearsal else ON_GPU
        return commands.run([sys.executable, *arguments], log, seconds, where | environment)


class Piece(NamedTuple):
    """What is measured at once.

    `run` gets the session and the seconds that it has, and returns what it found; "complete" in it says
    whether that is all of it.
    """

    name: str
    seconds: float  # that it may take: it is not begun with less
    run: Callable[[Session, float], Content]


class Part(NamedTuple):
    """A group of pieces, of whose results the page has a section."""

    name: str
    title: str
    pieces: Callable[[Session], Iterator[Piece]]  # asked for the next one when one is done
    page: Callable[[Mapping[str, Content]], list[str]]  # results by piece → paragraphs in Markdown


def run(part: Part, session: Session) -> bool:
    """Do what is missing of a part, as far as the time goes; whether nothing is missing any more."""
    results = session.results
    end = min(time.monotonic() + session.part_seconds, session.deadline)
    complete = True
    for piece in part.pieces(session):
        name = f"{part.name}, {piece.name}"
        if results.is_complete(part.name, piece.name):
            say(f"{name}: is there")
            continue
        left = end - time.monotonic()
        if left < min(piece.seconds, 0.99 * session.part_seconds):  # all that a part has is enough to try
            say(f"{name}: may take {piece.seconds:.0f} s, and {max(0.0, left):.0f} s are left; the next call")
            return False
        say(f"{name}: begins")
        begun = time.monotonic()
        before = results.pieces(part.name).get(piece.name, {})  # such as a run that was stopped
        try:
            content = piece.run(session, left)
        except UserError as error:
            content = before | {"complete": False, "problem": str(error)}
        except Exception as error:  # whatever one piece runs into, the others have their turn
            failure = {"problem": first_line(error), "output": traceback.format_exc()}
            content = before | {"complete": False} | failure
        seconds = time.monotonic() - begun
        of_this_call = {
            "device": session.card.name,
            "call": session.began,
            "environment": dict(session.facts),
        }
        results.write(part.name, piece.name, of_this_call | {"seconds": seconds} | content)
        complete = complete and bool(content["complete"])
        say(f"{name}: {content.get('problem') or 'done'}, {seconds:.0f} s")
    return complete


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
