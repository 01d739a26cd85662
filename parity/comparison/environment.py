"""What a report says of the machine: versions, devices, precision."""

from __future__ import annotations

import os
import platform

import jax
import numpy as np
import torch

from parity.budgets.reference import K
from parity.comparison.reference import SAMPLES
from parity.environment import jax_versions


def environment() -> dict[str, str]:
    """Versions, devices and what budgets are made of."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **jax_versions(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "jax device": jax.devices()[0].device_kind,
        "torch threads": str(torch.get_num_threads()),
        "budget": f"{K:g} times PyTorch's own error, of {SAMPLES} runs",
    }
