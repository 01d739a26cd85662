"""`parity speed`, a comparison at a time: two precisions, three measures, three batch sizes.

Each comparison measures its own peaks, so that shares are of one call. All ways of torch.compile take minutes
to compile, so they take part at one batch size, in the others those of one layout. The training loop is that
of the fastest train step of each side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from parity.speed.measurements import Comparison, Report, from_dict
from parity.speed.report import text as report_text
from recipe.output import grid
from recipe.system import files, json_values
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session


class Wanted(NamedTuple):
    """A comparison, and how long it may take."""

    measure: str
    precision: str
    batch: int
    seconds: float

    @property
    def name(self) -> str:
        """The piece's."""
        return f"{self.measure} {self.precision} {self.batch}"


OF_ALL = 512  # the batch size at which everybody takes part
ONE_LAYOUT = ("JAX*", "*channels_last")
WANTED = (  # what says most comes first
    Wanted("train", "bf16", 512, 450),
    Wanted("loop", "bf16", 512, 150),
    Wanted("eval", "bf16", 512, 450),
    Wanted("train", "bf16", 128, 300),
    Wanted("train", "bf16", 1024, 300),
    Wanted("train", "f32", 512, 450),
    Wanted("loop", "bf16", 128, 150),
    Wanted("loop", "bf16", 1024, 150),
    Wanted("loop", "f32", 512, 150),
    Wanted("eval", "f32", 512, 450),
    Wanted("train", "f32", 128, 300),
    Wanted("eval", "bf16", 128, 300),
    Wanted("eval", "bf16", 1024, 300),
    Wanted("train", "f32", 1024, 300),
    Wanted("loop", "f32", 128, 150),
    Wanted("loop", "f32", 1024, 150),
    Wanted("eval", "f32", 128, 300),
    Wanted("eval", "f32", 1024, 300),
)
TINY = (Wanted("train", "f32", 8, 60), Wanted("loop", "f32", 8, 60))
TINY_FLAGS = (
    "--arch=resnet20", "--width=4", "--rounds=1", "--seconds=0.01", "--no-compile",
)  # fmt: skip
TINY_CONTENDERS = ("JAX", "PyTorch eager NCHW")


def pieces(session: Session) -> Iterator[Piece]:
    """A comparison each."""
    for wanted in TINY if session.rehearsal else WANTED:

        def run(session: Session, seconds: float, wanted: Wanted = wanted) -> Content:
            return compare(session, seconds, wanted)

        yield Piece(wanted.name, wanted.seconds, run)


def compare(session: Session, seconds: float, wanted: Wanted) -> Content:
    """Run the comparison, and keep its report."""
    report = session.work / "speed" / f"{wanted.name.replace(' ', '-')}.json"
    files.remove(report)
    chosen = contenders(session, wanted)
    arguments = [
        "-m", "parity", "speed", f"--measure={wanted.measure}", f"--precision={wanted.precision}",
        f"--batch={wanted.batch}", f"--json={report}", *(TINY_FLAGS if session.rehearsal else ()),
        *([f"--contenders={','.join(chosen)}"] if chosen else []),
    ]  # fmt: skip
    done = session.python(f"speed {wanted.name}", arguments, seconds)
    if not report.exists():
        return {"complete": False} | done.kept
    return {"complete": True, "report": json_values.read(report)} | done.kept


def contenders(session: Session, wanted: Wanted) -> tuple[str, ...]:
    """Patterns of names; () for everybody."""
    if wanted.measure == "loop":
        train = session.results.pieces(PART.name).get(wanted._replace(measure="train").name)
        if train and "report" in train:
            (comparison,) = from_dict(_without_format(train["report"])).comparisons
            best = [comparison.best(side) for side in ("jax", "torch")]
            # a comma would end the pattern
            return tuple(timing.name.replace(",", "?") for timing in best if timing)
    if session.rehearsal:
        return TINY_CONTENDERS
    return () if wanted.batch == OF_ALL and wanted.measure != "loop" else ONE_LAYOUT


def page(found: Mapping[str, Content]) -> list[str]:
    """A table per comparison."""
    parts: list[str] = []
    reports: list[Report] = []
    for content in found.values():
        if "report" not in content:
            continue
        report = from_dict(_without_format(content["report"]))
        reports.append(report)
        for comparison in report.comparisons:
            parts += [
                f"### {report_text.title(comparison)}",
                f"{content['device']}, {peaks(comparison)}.",
                grid.markdown(report_text.header(comparison), report_text.rows(comparison), numbers=True),
                report_text.verdict(comparison),
            ]
    if reports:
        notes = dict.fromkeys(
            note for report in reports for note in (*report_text.legend(report), *report.notes)
        )
        parts.append("\n".join(f"- {note}" for note in notes))
    return parts


def peaks(comparison: Comparison) -> str:
    """What shares are of."""
    return (
        f"matrix products in {comparison.precision} at {comparison.peak_flops / 1e12:.3g} TFLOP/s, copies at "
        f"{comparison.bandwidth / 1e9:.4g} GB/s, measured in the same call"
    )


def _without_format(report: Mapping[str, object]) -> dict:
    return {key: value for key, value in report.items() if key != "format"}


PART = Part("speed", "Speed of the two frameworks", pieces, page)
