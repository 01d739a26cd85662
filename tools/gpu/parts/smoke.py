"""Whether both engines train at all: ResNet18 on scikit-learn's digits, whose loss must fall."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recipe.output import grid
from recipe.training.log import read_metrics
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session

RUNS = (("jax", "f32"), ("torch", "f32"), ("jax", "bf16"), ("torch", "bf16"))
TINY = ("--config.model.arch=resnet20", "--config.model.width=4", "--config.batch_size=200")


def pieces(session: Session) -> Iterator[Piece]:
    """A run per engine and precision."""
    for engine, precision in RUNS[:2] if session.rehearsal else RUNS:

        def run(
            session: Session, seconds: float, engine: str = engine, precision: str = precision
        ) -> Content:
            return learn(session, seconds, engine, precision)

        yield Piece(f"{engine} {precision}", 60, run)


def learn(session: Session, seconds: float, engine: str, precision: str) -> Content:
    """Three epochs on the digits."""
    workdir = session.work / "smoke" / f"{engine}-{precision}"
    arguments = [
        "main.py", "--config=configs/r18.py:digits", f"--config.engine={engine}", f"--workdir={workdir}",
        f"--config.precision={precision}", "--config.epochs=3", *(TINY if session.rehearsal else ()),
    ]  # fmt: skip
    done = session.python(f"smoke {engine} {precision}", arguments, seconds)
    losses = [record["train_loss"] for record in read_metrics(workdir)]
    falls = len(losses) == 3 and losses[-1] < losses[0]
    problem = done.problem or ("" if falls else "the training loss does not fall")
    return {"complete": not done.problem, "problem": problem, "losses": losses} | done.kept


def page(found: Mapping[str, Content]) -> list[str]:
    """The losses."""
    rows = [
        (
            content["device"],
            name,
            " → ".join(f"{loss:.4f}" for loss in content.get("losses", [])),
            content.get("problem") or "falls",
        )
        for name, content in found.items()
    ]
    return [grid.markdown(("device", "engine", "training loss of three epochs", ""), rows)]


PART = Part("smoke", "Both engines train", pieces, page)
