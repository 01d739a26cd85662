"""The page of what was measured. Its numbers are the results', and it says what was not run."""

from __future__ import annotations

from collections.abc import Iterable

from recipe.output import grid
from tools.gpu.results import Results
from tools.gpu.session import Part

INTRODUCTION = """\
Made by `make gpu` (`tools/gpu/`) of what a machine with an NVIDIA GPU measured. Numbers of different devices
or of different calls are no comparison: each row says its device, and what is compared is of one call."""
REHEARSAL = """\
**This is a rehearsal**: tiny networks and other data, on a CPU, to see that all parts run. Its numbers are
nobody's result, least of all a GPU's."""


def render(results: Results, parts: Iterable[Part]) -> str:
    """The whole page in Markdown."""
    title = "# A rehearsal of the measurements on a GPU" if results.rehearsal else "# On a GPU"
    sections = [title, REHEARSAL if results.rehearsal else INTRODUCTION]
    missing: list[str] = []
    for part in parts:
        found = results.kept(part.name)
        if not found:
            missing.append(f"- {part.name}: {part.title}")
            continue
        open_pieces = [(name, content) for name, content in found.items() if not content.get("complete")]
        sections += [f"## {part.title}", *part.page(found)]
        sections += [f"- Not finished: {name}: {content.get('problem')}" for name, content in open_pieces]
    if missing:
        sections += ["## Not run", "\n".join(missing)]
    sections += ["## Machines and versions", *environments(results, parts)]
    return "\n\n".join(sections) + "\n"


def environments(results: Results, parts: Iterable[Part]) -> list[str]:
    """A table of the calls, and what each of them ran with."""
    calls: dict[tuple[str, str], dict[str, str]] = {}
    pieces: dict[tuple[str, str], list[str]] = {}
    for part in parts:
        for name, content in results.kept(part.name).items():
            key = content["call"], content["device"]
            calls[key] = content["environment"]
            pieces.setdefault(key, []).append(f"{part.name} {name}")
    rows = [(call, device, ", ".join(pieces[call, device])) for call, device in sorted(calls)]
    versions = dict.fromkeys(
        "; ".join(f"{k}: {v}" for k, v in facts.items()) + "." for facts in calls.values()
    )
    return [grid.markdown(("call", "device", "measured"), rows), *versions]
