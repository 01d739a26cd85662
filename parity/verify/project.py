"""Where this project's code is."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("configs", "flax_resnet", "parity", "recipe", "torch_ref")  # all that `verify` runs
