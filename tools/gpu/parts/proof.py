"""What is proven on a CPU, on the GPU: `verify`, its budgets unchanged, and the engines' own tests.

Level 10 of `verify` is left out: its processes are on the CPU wherever it runs.
"""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path

from recipe.output import grid
from recipe.system import files, json_values
from tools.gpu.results import Content
from tools.gpu.session import Part, Piece, Session

LEVELS = ("1-2", "3", "4", "5-6", "7", "8-9")
# tests/conftest.py makes both engines compute on the GPU. Other tests are of files, or of processes on a CPU.
TESTS = {
    "tests of networks": [
        "tests/engines/test_model.py", "tests/engines/test_augment.py", "tests/engines/test_optimizer.py",
        "tests/engines/test_capture.py", "tests/engines/test_weights.py",
    ],
    "tests of runs": ["tests/engines/test_trainer.py"],
}  # fmt: skip
PROCESSES = 6  # that run tests, each with both frameworks on the GPU
TINY = ("1",)
TINY_TESTS = {"tests of networks": ["tests/engines/test_optimizer.py", "-k", "piecewise"]}


def pieces(session: Session) -> Iterator[Piece]:
    """`verify` in parts, then the tests."""
    for levels in TINY if session.rehearsal else LEVELS:

        def run(session: Session, seconds: float, levels: str = levels) -> Content:
            return verify(session, seconds, levels)

        yield Piece(f"verify {levels}", 240, run)
    for name, paths in (TINY_TESTS if session.rehearsal else TESTS).items():

        def test(session: Session, seconds: float, name: str = name, paths: list[str] = paths) -> Content:
            return tests(session, seconds, name, paths)

        yield Piece(name, 240, test)


def verify(session: Session, seconds: float, levels: str) -> Content:
    """`verify --quick` of ResNet18."""
    report = session.work / "proof" / f"verify-{levels}.json"
    files.remove(report)
    arguments = ["-m", "parity", "verify", "--quick", f"--levels={levels}", f"--json={report}"]
    if session.rehearsal:
        arguments += ["--arch=resnet20", "--width=4"]
    done = session.python(f"proof verify {levels}", arguments, seconds)
    if not report.exists():
        return {"complete": False} | done.kept
    content = json_values.read(report)
    checks = [
        {
            "level": check["level"],
            "name": check["name"],
            "precision": check["precision"],
            "passed": check["passed"],
            "cause": check["cause"],
            "where": check["worst"],
            "ratio": max((finding["ratio"] for finding in check["findings"]), key=float, default=0.0),
        }
        for check in content["checks"]
    ]
    return {"complete": True, "checks": checks, "of": content["environment"]} | done.kept


def tests(session: Session, seconds: float, name: str, paths: list[str]) -> Content:
    """Tests, and which failed or were skipped."""
    report = session.work / "proof" / f"{name.replace(' ', '-')}.xml"
    files.remove(report)
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *paths]
    if importlib.util.find_spec("xdist") and not session.rehearsal:
        arguments += ["-n", str(PROCESSES)]
    done = session.python(f"proof {name}", arguments, seconds)
    if not report.exists():
        return {"complete": False} | done.kept
    return {"complete": True, **counted(report)} | done.kept


def counted(report: Path) -> Content:
    """How many tests there were, and whose were not passed, of pytest's report."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    found: Content = {"tests": len(cases), "failed": {}, "skipped": {}}
    for case in cases:
        for child in case:
            kind = {"failure": "failed", "error": "failed", "skipped": "skipped"}.get(child.tag)
            if kind:
                words = (child.get("message") or "").strip().splitlines() or [""]
                found[kind][f"{case.get('classname')}::{case.get('name')}"] = words[0]
    return found


def page(found: Mapping[str, Content]) -> list[str]:
    """The checks closest to their budgets, and what failed."""
    parts: list[str] = []
    checks = [check for content in found.values() for check in content.get("checks", [])]
    if checks:
        failed = [check for check in checks if not check["passed"]]
        devices = " and ".join(dict.fromkeys(c["device"] for c in found.values() if "checks" in c))
        parts.append(
            f"`verify --quick` on {devices}, budgets unchanged: {len(checks)} checks, {len(failed)} failed."
        )
        worst: dict[tuple[int, str], dict] = {}
        for check in checks:
            key = check["level"], check["precision"]
            worst[key] = max(worst.get(key, check), check, key=lambda one: float(one["ratio"]))
        rows = [
            (level, precision, check["name"], check["where"], f"{float(check['ratio']):.2g}")
            for (level, precision), check in worst.items()
        ]
        parts.append(
            grid.markdown(("level", "precision", "closest to its budget", "where", "error/budget"), rows)
        )
        parts += [f"- FAILED: {c['name']} ({c['precision']}), {c['where']}: {c['cause']}" for c in failed]
    for name, content in found.items():
        if "tests" in content:
            failed_tests, skipped = content["failed"], content["skipped"]
            counts = f"{content['tests']} tests, {len(failed_tests)} failed, {len(skipped)} skipped"
            parts.append(f"{name.capitalize()} on {content['device']}: {counts}.")
            parts += [f"- FAILED: {test}: {why}" for test, why in failed_tests.items()]
            parts += [f"- skipped: {test}: {why}" for test, why in skipped.items()]
    return parts


PART = Part("proof", "The proof, on the GPU", pieces, page)
