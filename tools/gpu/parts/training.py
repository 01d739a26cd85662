"""Whole training runs on CIFAR-10: time and accuracy of `:fast`, `:fast94` (seed by seed) and the default.

A run that is stopped at its time limit has saved its state, and goes on in the next call. Its times are then
those of all calls, each of which starts and compiles anew.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from configs import r18
from recipe.output import grid
from recipe.training.log import read_metrics
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session

FIRST_STEP = re.compile(r"First step under way \S+ s after the start, done after (\S+) s")
STOPPED = 130  # main.py's exit status when it was asked to stop
LEAST = 90.0  # seconds that are worth starting a run that can go on later
MOST_SEEDS = 20
TINY = [
    "--config.data.name=digits", "--config.model.arch=resnet20", "--config.model.width=4",
    "--config.epochs=2", "--config.batch_size=400", "--config.precision=f32",
]  # fmt: skip
TINY_SEEDS = 2


def fast(session: Session) -> Iterator[Piece]:
    """One run."""
    yield piece("fast", "fast", 0, LEAST)


def default(session: Session) -> Iterator[Piece]:
    """One run, in as many calls as it takes."""
    yield piece("", "default", 0, LEAST)


def seeds(session: Session) -> Iterator[Piece]:
    """Runs with seeds 0, 1, 2, …, each expected to take as long as the one before it."""
    expected = LEAST
    for seed in range(TINY_SEEDS if session.rehearsal else MOST_SEEDS):
        yield piece("fast94", "seeds", seed, expected)
        found = session.results.pieces("seeds").get(f"seed {seed}", {})
        if not found.get("complete"):
            return
        expected = max(LEAST, *(1.1 * call["seconds"] for call in found["calls"]))


def piece(variant: str, part: str, seed: int, seconds: float) -> Piece:
    """A run of a variant of configs/r18.py ("" is the default) as a piece of a part."""
    return Piece(f"seed {seed}", seconds, lambda session, left: train(session, left, variant, part, seed))


def train(session: Session, seconds: float, variant: str, part: str, seed: int) -> Content:
    """Train, or go on training."""
    name = f"seed {seed}"
    workdir = session.work / part / name.replace(" ", "-")
    before = session.results.pieces(part).get(name, {}).get("calls", [])
    # a workdir whose earlier calls are not known has times that are not known either
    timed = bool(before) or not read_metrics(workdir)
    config = f"--config=configs/r18.py:{variant}" if variant else "--config=configs/r18.py"
    arguments = ["main.py", config, f"--workdir={workdir}", f"--config.seed={seed}"]
    arguments += ["--config.data.fallback=none", "--config.data.download=false"]
    arguments += TINY if session.rehearsal else [f"--config.data.dir={session.find_cifar()}"]
    done = session.python(f"{part} {name}", arguments, seconds)
    first = FIRST_STEP.search(done.output)
    call = {"device": session.card.name, "seconds": done.seconds}
    calls = [*before, call | {"to_first_step": float(first[1]) if first else None}]
    records = read_metrics(workdir)
    dataset = "digits" if session.rehearsal else "cifar10"
    content: Content = {
        "complete": not done.status and not done.stopped,
        "arguments": arguments,
        "epochs": 2 if session.rehearsal else r18.get_config(variant).epochs,
        "calls": calls,
        "timed": timed,
        "records": records,
    }
    if any(record["dataset"] != dataset for record in records):
        return content | {"complete": False, "problem": f"the run was not on {dataset}"}
    if done.stopped and done.status == STOPPED:
        return content | {"problem": f"stopped at its time limit after {len(records)} epochs; it can go on"}
    return content | done.kept


class Figures(NamedTuple):
    """Accuracy and times of a run; None for what is not known."""

    accuracy: float | None  # after the last epoch
    best: float | None  # of all epochs
    steps: float | None  # seconds of all training steps; of a run that went on, some are not recorded
    run: float | None  # seconds from the first step's end to the program's, of all calls
    program: float | None  # seconds of all calls
    images_per_second: float | None  # median over the epochs


def figures(content: Content) -> Figures:
    """Of a piece's result."""
    records, calls = content["records"], content["calls"]
    after = [call["seconds"] - call["to_first_step"] for call in calls if call["to_first_step"] is not None]
    return Figures(
        accuracy=records[-1]["test_acc"] if records else None,
        best=max((record["test_acc"] for record in records), default=None),
        steps=sum(record["seconds"] for record in records) if content["timed"] and len(calls) == 1 else None,
        run=sum(after) if content["timed"] and len(after) == len(calls) else None,
        program=sum(call["seconds"] for call in calls) if content["timed"] else None,
        images_per_second=statistics.median(r["images_per_second"] for r in records) if records else None,
    )


HEADER = (
    "device", "run", "epochs", "accuracy", "best", "steps, s", "run, s", "program, s", "calls", "images/s",
)  # fmt: skip
COLUMNS = """\
Accuracy is that of all 10,000 test images after the last epoch, without test-time augmentation; the best
epoch's beside it is chosen by the test images. "Steps" are those of training alone, with the first dispatch
and its compilation; "run" is from the end of the first step to the program's end: training, evaluations,
checkpoints, plots. "Program" is all of it, with imports, data and compilation. images/s is the median over
the epochs, without the first dispatch."""


def page_of(mark: str) -> Callable[[Mapping[str, Content]], list[str]]:
    """The page of a part, which begins with what its results are held against."""

    def page(found: Mapping[str, Content]) -> list[str]:
        runs = {name: content for name, content in found.items() if "records" in content}
        if not runs:
            return []
        table = grid.markdown(HEADER, [row(name, content) for name, content in runs.items()], numbers=True)
        return [mark, table, COLUMNS, *average([c for c in runs.values() if c["complete"]])]

    return page


def row(name: str, content: Content) -> tuple[str, ...]:
    """A run in the table."""
    accuracy, best, steps, run, program, speed = figures(content)
    return (
        " and ".join(dict.fromkeys(call["device"] for call in content["calls"])),
        name,
        f"{len(content['records'])} of {content['epochs']}",
        *(shown(value, "{:.4f}") for value in (accuracy, best)),
        *(shown(seconds, "{:.1f}") for seconds in (steps, run, program)),
        str(len(content["calls"])),
        shown(speed, "{:,.0f}"),
    )


def average(whole: Sequence[Content]) -> list[str]:
    """What several whole runs come to."""
    if len(whole) < 2:
        return []
    found = [content["records"][-1]["test_acc"] for content in whole]
    mean, deviation = statistics.mean(found), statistics.stdev(found)
    return [
        f"{len(whole)} whole runs: accuracy {mean:.4f} on average, standard deviation {deviation:.4f}, least "
        f"{min(found):.4f}."
    ]


def shown(value: float | None, form: str) -> str:
    """A number, or that there is none."""
    return "–" if value is None else form.format(value)


FAST = Part(
    "fast",
    "`:fast`, 80 epochs",
    fast,
    page_of(
        "cifar10-zoo reports 156 s and 95.3 to 95.6 % of this recipe on an A100. Aimed at: 95.3 % in 120 s."
    ),
)
SEEDS = Part(
    "seeds",
    "`:fast94`, 26 epochs, seed by seed",
    seeds,
    page_of("A mark: ResNet18 in 26 epochs, 94 % in 51 s on an A100. Aimed at: 94 % in 45 s."),
)
DEFAULT = Part("default", "The default recipe, 200 epochs", default, page_of("In float32 without TF32."))
