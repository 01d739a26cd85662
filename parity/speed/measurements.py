"""What was measured, and the same as JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from parity.speed.figures import Spread, ratios, spread
from parity.speed.jobs import title

FORMAT = 1  # changes when a program that reads the JSON must


@dataclasses.dataclass(frozen=True)
class Timing:
    """One contender's times in one comparison."""

    name: str
    side: str  # torch | jax
    seconds: tuple[float, ...]  # per step, a value per round; empty if it was slow in the trial
    trial: float  # seconds of a step before the rounds
    steps: int  # of a turn
    first_seconds: float  # the first step, which compiles
    error: float  # of its first outputs, as a share of what is allowed
    peak_bytes: int
    idle_share: float  # CPU seconds per second while others were timed
    loop_seconds: tuple[float, ...] = ()  # training loop: seconds per step of whole epochs

    @property
    def step(self) -> Spread:
        """Seconds per step; of a contender without rounds the trial's."""
        return spread(self.seconds or (self.trial,))

    @property
    def compile_seconds(self) -> float:
        """What the first step took longer than another."""
        return max(0.0, self.first_seconds - self.step.median)

    @property
    def whole(self) -> tuple[float, ...]:
        """Seconds per step as a user has them: of the loop where there is one."""
        return self.loop_seconds or self.seconds


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All contenders at one task."""

    measure: str  # train | eval | loop
    arch: str
    width: int
    precision: str
    batch_size: int
    flops: int  # of one step
    peak_flops: float  # per second, of the fastest GEMM of this precision
    timings: tuple[Timing, ...]
    traffic: int = 0  # bytes of activations that a step has to move; 0 in reports that don't know it
    bandwidth: float = 0.0  # bytes per second that the fastest copy reads and writes; 0 likewise
    failures: tuple[str, ...] = ()  # of contenders that were left out

    @property
    def title(self) -> str:
        """What is compared, in a phrase."""
        return title(self.arch, self.width, self.precision, self.batch_size)

    def best(self, side: str) -> Timing | None:
        """The fastest of a side, by medians."""
        timed = [timing for timing in self.timings if timing.side == side and timing.whole]
        return min(timed, key=lambda timing: spread(timing.whole).median, default=None)

    def speed(self, timing: Timing) -> Spread:
        """Images per second."""
        step = spread(timing.whole or (timing.trial,))
        return Spread(self.batch_size / step.median, self.batch_size / step.high, self.batch_size / step.low)

    def ratio(self, timing: Timing) -> Spread | None:
        """Speed over that of PyTorch's best, round by round."""
        best = self.best("torch")
        return spread(ratios(best.whole, timing.whole)) if best and timing.whole else None

    def share(self, timing: Timing) -> float:
        """Share of the GEMM peak."""
        return self.flops / spread(timing.whole or (timing.trial,)).median / self.peak_flops

    def share_of_bandwidth(self, timing: Timing) -> float | None:
        """Share of the memory's speed; None in reports that don't know it."""
        if not self.bandwidth:
            return None
        return self.traffic / spread(timing.whole or (timing.trial,)).median / self.bandwidth

    def overhead(self, timing: Timing) -> Spread | None:
        """What the loop costs beyond its steps, as a share of them, round by round."""
        if not timing.loop_seconds:
            return None
        return spread([ratio - 1 for ratio in ratios(timing.loop_seconds, timing.seconds)])


@dataclasses.dataclass(frozen=True)
class Report:
    """One run of the command."""

    command: str
    environment: dict[str, str]
    notes: tuple[str, ...]  # what was left out, and why
    comparisons: tuple[Comparison, ...]


def device_of(environment: Mapping[str, str]) -> str:
    """What the frameworks computed on: the GPU, or else the processor."""
    device = environment.get("torch device", "cpu")
    return environment["processor"] if device == "cpu" else device


def name_of(environment: Mapping[str, str]) -> str:
    """What tells one machine's report from another's, as the name of a file: device and versions."""
    model = device_of(environment).partition(" (avx")[0].replace("(R)", "")
    processor = re.sub("[^a-z0-9]+", "-", model.lower()).strip("-")
    return f"{processor}-python-{environment['python'].rsplit('.', 1)[0]}-jax-{environment['jax']}"


def render_json(report: Report) -> str:
    """Every number, and those that are derived from them."""
    return json.dumps({"format": FORMAT} | to_dict(report), indent=1, allow_nan=False) + "\n"


def to_dict(report: Report) -> dict[str, Any]:
    """The report as nested dicts and lists."""
    content = dataclasses.asdict(report)
    for comparison, written in zip(report.comparisons, content["comparisons"], strict=True):
        for timing, row in zip(comparison.timings, written["timings"], strict=True):
            ratio, overhead = comparison.ratio(timing), comparison.overhead(timing)
            row |= {
                "images_per_second": comparison.speed(timing)._asdict(),
                "ratio_to_best_pytorch": ratio and ratio._asdict(),
                "share_of_gemm_peak": comparison.share(timing),
                "share_of_bandwidth": comparison.share_of_bandwidth(timing),
                "compile_seconds": timing.compile_seconds,
                "loop_overhead": overhead and overhead._asdict(),
            }
    return content


def from_dict(content: dict[str, Any]) -> Report:
    """The inverse of `to_dict`; derived numbers are derived anew."""
    names = {field.name for field in dataclasses.fields(Timing)}
    comparisons = []
    for comparison in content["comparisons"]:
        rows = [{k: v for k, v in row.items() if k in names} for row in comparison["timings"]]
        timings = tuple(
            Timing(**row | {"seconds": tuple(row["seconds"]), "loop_seconds": tuple(row["loop_seconds"])})
            for row in rows
        )
        failures = tuple(comparison.get("failures", ()))
        comparisons.append(Comparison(**comparison | {"timings": timings, "failures": failures}))
    return Report(content["command"], content["environment"], tuple(content["notes"]), tuple(comparisons))
