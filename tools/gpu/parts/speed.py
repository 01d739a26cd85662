"""`parity speed`, a comparison at a time: two precisions, three measures, three batch sizes.

Each comparison measures its own peaks, so that shares are of one call. Every way of torch.compile takes a
minute or more to compile. So all of them take part at one batch size alone, in the layout that both engines
train in; elsewhere it is eager PyTorch and max-autotune, which has CUDA graphs as well, and of the other
layout there is one batch size. The training loop is that of the fastest train step of each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from parity.speed.measurements import Comparison, Report, Timing, from_dict
from parity.speed.report import text as report_text
from recipe.output import grid
from recipe.system import files, json_values
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session

LAYOUT = "channels_last"  # what both engines train in
BATCH_OF_ALL = 512
WAYS = ("eager", "max-autotune")  # of PyTorch, elsewhere
PATIENCE = 200  # seconds that a contender's first step may take: max-autotune compiles for minutes
SECONDS_OF_ALL, SECONDS = 420, 270  # that a comparison may take


class Wanted(NamedTuple):
    """A comparison."""

    measure: str
    precision: str
    batch: int
    layout: str = LAYOUT  # of PyTorch

    @property
    def name(self) -> str:
        """The piece's."""
        layout = "" if self.layout == LAYOUT else f" {self.layout}"
        return f"{self.measure} {self.precision} {self.batch}{layout}"

    @property
    def of_all(self) -> bool:
        """Whether every way of PyTorch takes part."""
        return self.measure != "loop" and (self.batch, self.layout) == (BATCH_OF_ALL, LAYOUT)


WANTED = (  # what says most comes first
    Wanted("train", "bf16", 512),
    Wanted("train", "bf16", 512, "NCHW"),
    Wanted("loop", "bf16", 512),
    Wanted("eval", "bf16", 512),
    Wanted("train", "bf16", 128),
    Wanted("train", "bf16", 1024),
    Wanted("train", "f32", 512),
    Wanted("loop", "bf16", 128),
    Wanted("loop", "bf16", 1024),
    Wanted("loop", "f32", 512),
    Wanted("eval", "f32", 512),
    Wanted("train", "f32", 128),
    Wanted("eval", "bf16", 128),
    Wanted("eval", "bf16", 1024),
    Wanted("train", "f32", 1024),
    Wanted("loop", "f32", 128),
    Wanted("loop", "f32", 1024),
    Wanted("eval", "f32", 128),
    Wanted("eval", "f32", 1024),
    Wanted("train", "f32", 512, "NCHW"),
    Wanted("eval", "bf16", 512, "NCHW"),
    Wanted("eval", "f32", 512, "NCHW"),
)
TINY = Wanted("train", "f32", 8), Wanted("loop", "f32", 8)
TINY_FLAGS = "--arch=resnet20", "--width=4", "--rounds=1", "--seconds=0.01", "--no-compile"


def pieces(session: Session) -> Iterator[Piece]:
    """A comparison each."""
    for wanted in TINY if session.rehearsal else WANTED:

        def run(session: Session, seconds: float, wanted: Wanted = wanted) -> Content:
            return compare(session, seconds, wanted)

        yield Piece(wanted.name, SECONDS_OF_ALL if wanted.of_all else SECONDS, run)


def compare(session: Session, seconds: float, wanted: Wanted) -> Content:
    """Run the comparison, and keep its report."""
    report = session.work / "speed" / f"{wanted.name.replace(' ', '-')}.json"
    files.remove(report)
    arguments = [
        "-m", "parity", "speed", f"--measure={wanted.measure}", f"--precision={wanted.precision}",
        f"--batch={wanted.batch}", f"--contenders={','.join(contenders(session, wanted))}",
        f"--patience={PATIENCE}", f"--json={report}", *(TINY_FLAGS if session.rehearsal else ()),
    ]  # fmt: skip
    done = session.python(f"speed {wanted.name}", arguments, seconds)
    if not report.exists():
        return {"complete": False} | done.kept
    return {"complete": True, "report": json_values.read(report)} | done.kept


def contenders(session: Session, wanted: Wanted) -> list[str]:
    """Patterns of names."""
    best = fastest(session.results.pieces(PART.name), wanted.precision, wanted.batch)
    if wanted.measure == "loop" and best:
        return [name.replace(",", "?") for name in best]  # a comma would end the pattern
    if session.rehearsal or wanted.of_all:
        return ["JAX*", f"*{wanted.layout}"]
    return ["JAX*", *(f"PyTorch {way} {wanted.layout}" for way in WAYS)]


def fastest(found: Mapping[str, Content], precision: str, batch: int) -> list[str]:
    """The names of each side's fastest at the train step, as far as it was compared; in any layout."""
    timings: dict[str, list[tuple[float, Timing]]] = {}
    for layout in (LAYOUT, "NCHW"):
        content = found.get(Wanted("train", precision, batch, layout).name, {})
        for comparison in report_of(content).comparisons if "report" in content else ():
            for timing in comparison.timings:
                timings.setdefault(timing.side, []).append((comparison.speed(timing).median, timing))
    return [max(of, key=lambda one: one[0])[1].name for of in timings.values()]


def page(found: Mapping[str, Content]) -> list[str]:
    """A table per comparison, with the notes that not all of them have."""
    measured = [(content["device"], report_of(content)) for content in found.values() if "report" in content]
    if not measured:
        return []
    shared = [note for note in measured[0][1].notes if all(note in report.notes for _, report in measured)]
    parts: list[str] = []
    for device, report in measured:
        for comparison in report.comparisons:
            parts += [
                f"### {report_text.title(comparison)}",
                f"{device}, {peaks(comparison)}.",
                grid.markdown(report_text.header(comparison), report_text.rows(comparison), numbers=True),
                report_text.verdict(comparison),
            ]
        if own := [note for note in report.notes if note not in shared]:
            parts.append("\n".join(f"- {note}" for note in own))
    parts.append("### What the columns are")
    parts.append("\n".join(f"- {note}" for note in (*report_text.legend(measured[0][1]), *shared)))
    return parts


def peaks(comparison: Comparison) -> str:
    """What shares are of."""
    return (
        f"matrix products in {comparison.precision} at {comparison.peak_flops / 1e12:.3g} TFLOP/s, copies at "
        f"{comparison.bandwidth / 1e9:.4g} GB/s, measured in the same call"
    )


def report_of(content: Content) -> Report:
    """The report in a piece's result."""
    fields: dict[str, Any] = {key: value for key, value in content["report"].items() if key != "format"}
    return from_dict(fields)


PART = Part("speed", "Speed of the two frameworks", pieces, page)
