"""All comparisons, one after the other."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from parity.speed import contenders, threads
from parity.speed.figures import spread
from parity.speed.jobs import MEASURES, PRECISIONS, Contender, Job
from parity.speed.measurements import Comparison, Report, Timing
from parity.speed.rounds import HOPELESS, hopeless, steps_of_a_turn, take_turns
from parity.speed.verdict import Verdict, check
from parity.speed.worker import Worker
from recipe.architectures import ARCHITECTURES
from recipe.system.errors import UserError, choice
from recipe.system.processor import processor_flags, processor_name

TRIALS = 2  # before the rounds; they decide how many steps a turn has, and who gets one
WIDE = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")  # what decides about a processor's peak


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare, and how long."""

    measures: tuple[str, ...] = tuple(MEASURES)
    archs: tuple[str, ...] = ("resnet18",)
    precisions: tuple[str, ...] = PRECISIONS
    batch_sizes: tuple[int, ...] = (64,)
    width: int = 0
    rounds: int = 5
    seconds: float = 1.0  # of a turn, at least
    compiled: bool = True  # whether torch.compile takes part
    steps_per_dispatch: int = 0  # of JAX, beside one; 0 is the device's default
    contenders: tuple[str, ...] = ()  # patterns of names; () is everybody
    patience: float = 0.0  # seconds that a first step may take, else its contender is left out; 0 is no limit

    def __post_init__(self) -> None:
        for kind, chosen, valid in (
            ("measure", self.measures, MEASURES),
            ("architecture", self.archs, ARCHITECTURES),
            ("precision", self.precisions, PRECISIONS),
        ):
            for name in chosen:
                choice(kind, name, valid)
        if min(self.batch_sizes) < 2:
            raise UserError(f"--batch must be at least 2, not {min(self.batch_sizes)}")
        if not 0 <= self.steps_per_dispatch <= 1000:
            raise UserError(f"--steps-per-dispatch must be from 0 to 1000, not {self.steps_per_dispatch}")
        if not 0 <= self.patience < float("inf"):
            raise UserError(f"--patience must be a number of seconds, or 0, not {self.patience:g}")
        if self.width < 0:
            raise UserError(f"--width must be a number of channels, or 0, not {self.width}")
        if self.rounds < 1:
            raise UserError("--rounds must be at least 1")
        if not 0 < self.seconds < float("inf"):
            raise UserError(f"--seconds must be above 0, not {self.seconds:g}")


def run(options: Options, command: str) -> Iterator[Report]:
    """Do all comparisons. The report so far comes after each, so that whatever ends a long run costs one.

    Progress goes to stderr.
    """
    peaks: dict[str, Peaks] = {}
    environment = machine()
    for precision in options.precisions:
        peaks[precision], facts = peaks_of(precision, options)
        environment |= facts
    environment |= {f"GEMM peak {name}": f"{peak.flops / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()}
    environment["copy"] = f"{max(peak.bandwidth for peak in peaks.values()) / 1e9:.0f} GB/s"
    device = one_device(environment)
    unit = options.steps_per_dispatch or contenders.STEPS_PER_DISPATCH[device]
    epoch_steps = unit * -(-contenders.EPOCH_STEPS[device] // unit)
    tasks = [
        Job(contenders.REFERENCE, measure, arch, options.width, precision, batch_size, epoch_steps)
        for arch in options.archs
        for precision in options.precisions
        for batch_size in options.batch_sizes
        for measure in MEASURES
        if measure in options.measures
    ]
    missing = contenders.without_compiler()
    before = left_out(options, missing, in_loops=unit > 1 or device != "cpu")
    everybody = contenders.everybody(
        device,
        compiled=options.compiled and not missing,
        steps_per_dispatch=options.steps_per_dispatch,
    )
    players = contenders.chosen(everybody, options.contenders)
    if len(players) < len(everybody):
        before.append(f"as asked, only these took part: {'; '.join(player.name for player in players)}")
    comparisons: list[Comparison] = []
    for task in tasks:
        chosen = [p for p in players if task.measure != "eval" or is_single(p)]
        if task.measure == "loop":  # those that train fastest, where they are known
            same = [c for c in comparisons if c.measure == "train" and subject(c) == subject(task)]
            chosen = [p for p in players if not same or any(is_best(p, comparison) for comparison in same)]
        comparisons.append(compare(task, chosen, peaks[task.precision], options))
        notes = [*before, *remarks(environment, comparisons)]
        if len(comparisons) < len(tasks):
            notes.append(f"not finished: {len(comparisons)} of {len(tasks)} comparisons")
        yield Report(command, environment, tuple(notes), tuple(comparisons))


def left_out(options: Options, missing: str, *, in_loops: bool) -> list[str]:
    """Notes on what does not take part.

    Args:
      missing: why torch.compile can't be had, or "".
      in_loops: whether JAX runs several steps per dispatch as well.
    """
    notes = []
    if options.compiled and missing:
        notes.append(missing)
    elif not options.compiled:
        notes.append("torch.compile was left out, as asked: PyTorch's best may be faster")
    if not in_loops:
        notes.append(
            "several JAX steps per dispatch were left out: on a CPU a loop makes a step tens of times slower "
            "(jax #12868), and training does not use it there; --steps-per-dispatch=2 measures it"
        )
    return notes


def remarks(environment: dict[str, str], comparisons: list[Comparison]) -> list[str]:
    """Notes on how far to trust the numbers."""
    notes = threads.remarks(environment)
    load = float(environment["load before"])
    if load > float(environment["CPUs"]) / 4:
        notes.append(
            f"the machine was busy before (load {load:g}): these numbers are no benchmark. PyTorch suffers "
            "most, since its threads wait for each other at the end of every loop"
        )
    if any(not timing.seconds for comparison in comparisons for timing in comparison.timings):
        notes.append(
            f"~ marks a contender that in the best of {TRIALS} trials took over {HOPELESS} times as long as "
            "its side's best, and got no further turn: its figures are that trial's"
        )
    notes += [f"left out: {failure}" for comparison in comparisons for failure in comparison.failures]
    busy = max(timing.idle_share for comparison in comparisons for timing in comparison.timings)
    return [*notes, f"processes that waited for their turn used at most {busy:.1%} of a CPU each"]


def compare(task: Job, players: Iterable[Contender], peaks: Peaks, options: Options) -> Comparison:
    """One comparison: check everybody's first outputs, then time them in turn."""
    say(f"{MEASURES[task.measure]}, {task.arch}, {task.precision}, batch {task.batch_size}")
    verdict = referee(dataclasses.replace(task, measure="eval" if task.measure == "eval" else "train"))
    workers = {p.name: Worker(dataclasses.replace(task, contender=p)) for p in players}
    firsts: dict[str, dict[str, Any]] = {}
    errors: dict[str, float] = {}
    trials: dict[str, float] = {}
    failures: list[str] = []

    def made(name: str, worker: Worker) -> None:
        worker.made(options.patience or None)  # all at once, and nobody's first step while others are built

    def first(name: str, worker: Worker) -> None:
        firsts[name] = worker.first(options.patience or None)
        errors[name] = check(name, firsts[name].pop("outputs"), verdict, task.precision)
        took = firsts[name]["seconds"]
        say(f"  {name}: first step {took:.1f} s; {errors[name]:.2f} of the error allowed")

    def trial(name: str, worker: Worker) -> None:
        quantum = firsts[name]["quantum"]
        for track in firsts[name]["tracks"]:  # the second step may still allocate, and an epoch compile
            worker.time(track, quantum)
        trials[name] = min(worker.time("step", quantum) for _ in range(TRIALS)) / quantum

    try:
        for stage in (made, first, trial):
            failures += leave_out_failing(stage, workers, strict=not options.patience)
        slow = hopeless(trials, {name: worker.job.contender.side for name, worker in workers.items()})
        racing = {name: worker for name, worker in workers.items() if name not in slow}
        steps = {
            name: steps_of_a_turn(trials[name], options.seconds, firsts[name]["quantum"]) for name in racing
        }
        tracks = {name: firsts[name]["tracks"] for name in racing}
        seconds = take_turns(
            racing, tracks, steps, options.rounds, lambda n: say(f"  round {n} of {options.rounds}")
        )
        timings = []
        for name, worker in workers.items():
            timings.append(
                Timing(
                    name=name,
                    side=worker.job.contender.side,
                    seconds=tuple(seconds.get((name, "step"), ())),
                    trial=trials[name],
                    steps=steps.get(name, firsts[name]["quantum"]),
                    first_seconds=firsts[name]["seconds"],
                    error=errors[name],
                    loop_seconds=tuple(seconds.get((name, "loop"), ())),
                    **worker.finish(),
                )
            )
    finally:
        for worker in workers.values():
            worker.kill()
    return Comparison(
        task.measure, *subject(task), verdict.flops, peaks.flops, tuple(timings), verdict.traffic,
        peaks.bandwidth, tuple(failures),
    )  # fmt: skip


def leave_out_failing(
    stage: Callable[[str, Worker], None], workers: dict[str, Worker], *, strict: bool
) -> list[str]:
    """Have all workers do something; those that fail are ended and taken out, unless `strict`.

    Returns:
      why they failed.

    Raises:
      UserError: if one fails and `strict` is set, or if all fail.
    """
    failures = []
    for name, worker in list(workers.items()):
        try:
            stage(name, worker)
        except UserError as error:
            if strict or len(workers) == 1:
                raise
            failures.append(str(error))
            say(f"  left out: {error}")
            workers.pop(name).kill()
    return failures


class Peaks(NamedTuple):
    """What a machine can do at the simplest work, by the faster framework's median."""

    flops: float  # per second, of square matrix products of a precision
    bandwidth: float  # bytes per second that a copy reads and writes


def peaks_of(precision: str, options: Options) -> tuple[Peaks, dict[str, str]]:
    """Measure them, and find facts about both frameworks."""
    say(f"matrix products in {precision}, copies of memory")
    jobs = {p.name: Job(p, "train", options.archs[0], 0, precision, 2) for p in contenders.PEAKS}
    workers = {name: Worker(job, "peaks") for name, job in jobs.items()}
    try:
        firsts = {name: worker.first() for name, worker in workers.items()}
        tracks = {name: first["tracks"] for name, first in firsts.items()}
        trials = {
            name: max(worker.time(track, 1) for track in tracks[name]) for name, worker in workers.items()
        }
        steps = {name: steps_of_a_turn(trials[name], options.seconds, 1) for name in workers}
        seconds = take_turns(workers, tracks, steps, options.rounds)
        for worker in workers.values():
            worker.finish()
    finally:
        for worker in workers.values():
            worker.kill()

    def best(track: str) -> float:
        return max(firsts[name]["work"][track] / spread(seconds[name, track]).median for name in workers)

    facts = {key: value for first in firsts.values() for key, value in first["facts"].items()}
    return Peaks(best("gemm"), best("copy")), facts


def one_device(environment: dict[str, str]) -> str:
    """The kind of device both frameworks compute on; a `UserError` if they differ."""
    theirs, ours = environment["torch device"], environment["jax device"]
    if (theirs == "cpu") != (ours == "cpu"):
        raise UserError(
            f"PyTorch computes on {theirs} and JAX on {ours}: speeds on different devices can't be compared. "
            "JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES= put both on the CPU"
        )
    return "cpu" if theirs == "cpu" else "cuda"


def machine() -> dict[str, str]:
    """The processor and what else decides about speed."""
    flags = processor_flags()
    wide = f" ({', '.join(flag for flag in WIDE if flag in flags)})" if flags else ""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name() + wide,
        "CPUs": str(threads.cpus()),
        "load before": f"{busy_cpus():.1f}",
    }


def busy_cpus(seconds: float = 2.0) -> float:
    """How many CPUs others keep busy, measured for some seconds; off Linux the system's average of a minute.

    The average would count what this command's user ran just before.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return os.getloadavg()[0]

    def idle() -> float:  # seconds of all CPUs together, waiting for a disk included
        return sum(map(int, stat.read_text(encoding="ascii").split()[4:6])) / os.sysconf("SC_CLK_TCK")

    before, begin = idle(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, (os.cpu_count() or 1) - (idle() - before) / (time.monotonic() - begin))


def subject(task: Job | Comparison) -> tuple[str, int, str, int]:
    """What is the same in all measures."""
    return task.arch, task.width, task.precision, task.batch_size


def is_single(player: Contender) -> bool:
    """Whether a contender dispatches one step at a time; evaluation never does otherwise."""
    return dict(player.config).get("steps_per_dispatch", 1) == 1


def is_best(player: Contender, comparison: Comparison) -> bool:
    """Whether a contender was the fastest of its side."""
    best = comparison.best(player.side)
    return best is not None and best.name == player.name


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


@functools.lru_cache(maxsize=2)
def referee(task: Job) -> Verdict:
    """What first outputs must be, found in a process whose memory and threads end with it.

    The loop's first step is the train step's: it takes the same batch.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_judge, task).result()


def _judge(task: Job) -> Verdict:
    from parity.speed.programs.referee import judge  # with both frameworks, in a process of its own

    return judge(task)
