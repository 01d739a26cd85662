"""What could be imported if less were installed."""

from __future__ import annotations

import sys
from importlib import metadata
from importlib.abc import MetaPathFinder
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def for_jax() -> None:
    """Let this process import no package but those that requirements-jax.txt installs, and Python's own."""
    lines = (ROOT / "requirements-jax.txt").read_text(encoding="utf-8").splitlines()
    installed = {"resnet18-parity", *_with_what_they_need([line for line in lines if line[0] not in "#-"])}
    modules = {
        module: {_canonical(name) for name in distributions}
        for module, distributions in metadata.packages_distributions().items()
    }
    missing = {module for module, distributions in modules.items() if not distributions & installed}
    assert "torch" in missing
    sys.meta_path.insert(0, _Missing(missing))


class _Missing(MetaPathFinder):
    """Finds nothing, and lets nobody else find modules of these names."""

    def __init__(self, modules: set[str]):
        self._modules = modules

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name.partition(".")[0] in self._modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _with_what_they_need(requirements: list[str]) -> set[str]:
    """The distributions that pip installs for requirements."""
    found: set[tuple[str, str]] = set()  # distribution, and an extra of it or ""
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        one, of_extra = waiting.pop()
        if one.marker and not one.marker.evaluate({"extra": of_extra}):
            continue
        for extra in ("", *one.extras):
            if (new := (_canonical(one.name), extra)) not in found:
                found.add(new)
                waiting += [(Requirement(line), extra) for line in metadata.requires(one.name) or []]
    return {name for name, _ in found}


def _canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
