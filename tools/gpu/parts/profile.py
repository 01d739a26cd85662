"""Where a training step's time goes: `python -m tools.profile`, and what it wrote."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping

from recipe.system import files, json_values
from recipe.system.errors import UserError
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session

PROGRAM = "tools.profile"
# The loop is profiled with CUDA graphs, since it is about waits and gaps, and by single steps as well: a loop
# within a program may make the host wait for each of its steps
LOOP = ("--batch=512", "--precision=bf16", "--loop", "--steps=100", "--graphs")
WORKLOADS = {
    "bf16 512": ("--batch=512", "--precision=bf16"),
    "bf16 128": ("--batch=128", "--precision=bf16"),
    "bf16 512 loop": LOOP,
    "bf16 512 loop of single steps": (*LOOP, "--steps-per-dispatch=1"),
}
TINY = ("--arch=resnet20", "--width=4", "--batch=8", "--precision=f32", "--steps=2")


def pieces(session: Session) -> Iterator[Piece]:
    """Profiles of train steps, and of the training loop."""
    for name, flags in {"f32 8": TINY}.items() if session.rehearsal else WORKLOADS.items():

        def run(
            session: Session, seconds: float, name: str = name, flags: tuple[str, ...] = flags
        ) -> Content:
            return profile(session, seconds, name, flags)

        yield Piece(name, 120, run)


def profile(session: Session, seconds: float, name: str, flags: tuple[str, ...]) -> Content:
    """Profile, and keep the page and the numbers."""
    if not importlib.util.find_spec(PROGRAM):
        raise UserError(f"there is no {PROGRAM}, which reads a trace")
    folder = session.work / "profile" / name.replace(" ", "-")
    files.remove(folder / "profile.json")
    done = session.python(f"profile {name}", ["-m", PROGRAM, f"--output={folder}", *flags], seconds)
    if done.problem or not (folder / "profile.json").exists():
        return {"complete": False} | done.kept
    return {
        "complete": True,
        "profile": json_values.read(folder / "profile.json"),
        "page": (folder / "profile.md").read_text(encoding="utf-8"),
    }


def page(found: Mapping[str, Content]) -> list[str]:
    """The program's own pages, their headings two levels down."""
    parts = []
    for content in found.values():
        if "page" in content:
            lines = content["page"].splitlines()
            parts.append("\n".join(f"##{line}" if line.startswith("#") else line for line in lines))
    return parts


PART = Part("profile", "Where a training step's time goes", pieces, page)
