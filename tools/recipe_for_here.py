"""python -m tools.recipe_for_here: which config `make train` trains, by the device that JAX has.

The config goes to standard output, for the Makefile; why it is that one, to standard error.
"""

from __future__ import annotations

import sys

import jax

from flax_resnet.runtime import start_backend
from recipe.system import program

DEFAULT = "configs/r18.py"
CPU = f"{DEFAULT}:cpu"


def main() -> int:
    """Print the config and the reason for it; 2 if JAX can't start."""

    def choose() -> int:
        start_backend()
        config, why = recipe(jax.default_backend())
        print(config)
        print(why, file=sys.stderr)
        return 0

    return program.run(choose, interrupted="Interrupted.")


def recipe(backend: str) -> tuple[str, str]:
    """The config for one of JAX's backends (cpu, gpu, tpu), and why it is that one."""
    if backend != "cpu":
        return DEFAULT, f"JAX computes on a {backend}: this is the default recipe, {DEFAULT}."
    return CPU, (
        f"JAX has no accelerator here: this is {CPU}, the recipe for CPUs, less than an hour on two cores.\n"
        f"The default recipe, 200 epochs: {sys.executable} main.py --config={DEFAULT}\n"
        "JAX for an NVIDIA GPU or a TPU: see docs/processors.md"
    )


if __name__ == "__main__":
    sys.exit(main())
