"""python -m tools.gpu.environment FILE: versions, and where both frameworks compute, as JSON.

A program of its own: whoever asks has to load no framework, nor hold a part of the GPU's memory.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recipe.system import files
from recipe.system.errors import UserError

PACKAGES = (
    "orbax-checkpoint", "numpy", "jax-cuda13-plugin", "nvidia-cudnn-cu13", "triton", "ml-collections",
    "tensorflow-datasets", "array-record",
)  # fmt: skip


def main(file: str) -> int:
    """Write the facts to a file."""
    import torch

    from parity.environment import jax_facts, torch_facts
    from torch_ref.runtime import set_up

    set_up()  # as every run does, so that what is told of TF32 is what runs have
    facts = {
        "python": platform.python_version(),
        **jax_facts(),
        **torch_facts(),
        "CUDA in torch": str(torch.version.cuda),
        **{package: found for package in PACKAGES if (found := version_of(package))},
    }
    files.write_text(file, json.dumps({name: value for name, value in facts.items() if value}, indent=1))
    return 0


def version_of(package: str) -> str:
    """The version of a package; "" where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check(facts: Mapping[str, str], card: str) -> None:
    """Raise a `UserError` if a framework computes on the CPU, which it does silently, and not on a card."""
    for framework in ("torch", "jax"):
        if facts[f"{framework} device"] == "cpu":
            raise UserError(
                f"the GPU is {card}, but {framework} {facts[framework]} computes on the CPU: install the "
                f"build of {framework} for CUDA"
            )


if __name__ == "__main__":
    sys.exit(main(str(Path(sys.argv[1]))))
