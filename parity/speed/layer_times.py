"""Where a train step's time goes: every convolution and batch norm alone, beside what it takes at least.

Layers of one shape are timed once and counted. A process per contender has all of them ready, and they take
turns, as in `parity.speed.compare`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from parity.speed import contenders
from parity.speed.compare import Options, Peaks, machine, one_device, peaks_of, say
from parity.speed.figures import Spread, spread
from parity.speed.jobs import ITEM_BYTES, Job, Layer, title
from parity.speed.rounds import take_turns
from parity.speed.worker import Worker

REPEATS = 8  # of an operation in a turn


@dataclasses.dataclass(frozen=True)
class Row:
    """One operation of one kind of layer. Times are in seconds, and for one layer."""

    layer: Layer
    operation: str
    arithmetic: float  # its operations at the speed of the fastest matrix product
    memory: float  # its arrays, each once, at the speed of a copy
    seconds: dict[str, Spread]  # by contender

    @property
    def floor(self) -> float:
        """What it takes at least."""
        return max(self.arithmetic, self.memory)


@dataclasses.dataclass(frozen=True)
class LayerTable:
    """All rows of a network."""

    command: str
    title: str
    environment: dict[str, str]
    rows: tuple[Row, ...]

    def total(self, value: Callable[[Row], float], kind: str = "") -> float:
        """The sum over a network's layers, of a kind or of all."""
        return sum(row.layer.count * value(row) for row in self.rows if kind in ("", row.layer.kind))


def measure(options: Options, command: str) -> Iterator[LayerTable]:
    """A table per architecture, precision and batch size; progress goes to stderr."""
    environment = machine()
    for precision in options.precisions:
        peaks, facts = peaks_of(precision, options)
        environment |= facts
        for arch in options.archs:
            for batch_size in options.batch_sizes:
                job = Job(contenders.LAYERS_REFERENCE, "train", arch, options.width, precision, batch_size)
                yield _table(job, peaks, environment, options, command)


def _table(job: Job, peaks: Peaks, environment: dict[str, str], options: Options, command: str) -> LayerTable:
    players = contenders.for_layers(one_device(environment))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        job = dataclasses.replace(job, layers=pool.submit(_layers, job).result())
    name_of_table = title(job.arch, job.width, job.precision, job.batch_size)
    say(f"{len(job.layers)} kinds of layers of {name_of_table}")
    workers = {p.name: Worker(dataclasses.replace(job, contender=p), "layers") for p in players}
    try:
        tracks: dict[str, list[str]] = {}
        for name, worker in workers.items():
            first = worker.first()
            tracks[name] = first["tracks"]
            environment = environment | first["facts"]
            for track in tracks[name]:
                worker.time(track, 1)
            say(f"  {name} is ready")
        seconds = take_turns(
            workers,
            tracks,
            dict.fromkeys(workers, REPEATS),
            options.rounds,
            lambda n: say(f"  round {n} of {options.rounds}"),
        )
    finally:
        for worker in workers.values():
            worker.kill()
    environment |= {
        "GEMM peak": f"{peaks.flops / 1e9:.0f} GFLOP/s",
        "copy": f"{peaks.bandwidth / 1e9:.1f} GB/s",
    }
    rows = []
    for layer in job.layers:
        for operation in layer.operations:
            track = layer.track(operation)
            rows.append(
                Row(
                    layer,
                    operation,
                    layer.flops(job.batch_size) / peaks.flops,
                    ITEM_BYTES[job.precision] * layer.elements(operation, job.batch_size) / peaks.bandwidth,
                    {name: spread(seconds[name, track]) for name in workers},
                )
            )
    return LayerTable(command, name_of_table, environment, tuple(rows))


def _layers(job: Job) -> tuple[Layer, ...]:
    from parity.speed.programs.geometry import layers  # with PyTorch, in a process of its own

    return layers(job)


def render(table: LayerTable) -> list[tuple[str, ...]]:
    """Cells: a header, a row per operation, and sums over all layers. Milliseconds."""
    names = list(table.rows[0].seconds)
    header = ("layer", "number", "operation", "arithmetic", "memory", *names)
    body = [
        (
            str(row.layer),
            str(row.layer.count),
            row.operation,
            _ms(row.arithmetic),
            _ms(row.memory),
            *(_ms(row.seconds[name].median) for name in names),
        )
        for row in table.rows
    ]
    for kind in ("convolution", "batch norm", ""):
        sums: list[Callable[[Row], float]] = [lambda row: row.arithmetic, lambda row: row.memory]
        sums += [lambda row, name=name: row.seconds[name].median for name in names]  # type: ignore[misc]
        body.append(
            (f"all {kind}s" if kind else "all", "", "", *(_ms(table.total(value, kind)) for value in sums))
        )
    return [header, *body]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"
