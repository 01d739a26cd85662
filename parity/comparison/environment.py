"""What a report says of the machine: versions, devices, precision."""

from __future__ import annotations

import os
import platform

import numpy as np
import torch

from parity.budgets.reference import K
from parity.comparison.reference import SAMPLES


def environment(flax: dict[str, str]) -> dict[str, str]:
    """Versions, devices and what budgets are made of.

    Args:
      flax: what Flax's part says of itself.
    """
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **flax,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "torch threads": str(torch.get_num_threads()),
        "budget": f"{K:g} times PyTorch's own error, of {SAMPLES} runs",
    }
