"""Whether all processes of a run are about to do the same."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from recipe.data import Dataset
from recipe.processes.world import World
from recipe.system import json_values
from recipe.system.errors import UserError
from recipe.training.description import RunDescription
from recipe.training.engine import ENGINES
from recipe.training.settings import fields

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {"jax": ("jax", "flax", "optax", "numpy"), "torch": ("torch", "numpy")}
# where a host keeps its copy of the data, and what process 0 alone does
OWN = ("data.dir", "data.download", "log.", "checkpoint.")


def check(world: World, run: RunDescription, data: Dataset) -> None:
    """Compare configs, data, code and versions of all processes with those of process 0.

    Raises:
      UserError: in all processes, naming the first that differs and what differs.
    """
    if world.count == 1:
        return
    told = world.exchange("run", json.dumps(_describe(run, data), default=str))
    first, *others = (json_values.parse(text.encode()) for text in told)
    for index, other in enumerate(others, 1):
        for name in sorted(first.keys() | other.keys()):
            ours, theirs = first.get(name, "absent"), other.get(name, "absent")
            if ours != theirs:
                raise UserError(
                    f"process {index} of {world.count} has another {name} than process 0: {theirs}, "
                    f"not {ours}; start all processes with the same code, data and flags"
                )


def _describe(run: RunDescription, data: Dataset) -> dict[str, Any]:
    config = dict(fields(json.loads(run.config_json)))
    return {
        **{f"config.{name}": value for name, value in config.items() if not name.startswith(OWN)},
        "data (SHA-256)": _digest_of_data(data),
        "code (SHA-256)": digest_of_code(run.engine),
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES[run.engine]},
    }


def _digest_of_data(data: Dataset) -> str:
    digest = hashlib.sha256(repr((data.class_names, data.mean, data.std)).encode())
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def digest_of_code(engine: str) -> str:
    """The SHA-256 of all Python files that a run of an engine may execute."""
    digest = hashlib.sha256()
    for package in ("recipe", ENGINES[engine]):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
