"""What a report says of the run: what was checked, and on which machine with which versions."""

from __future__ import annotations

import os
import platform

import jax
import numpy as np
import torch

from flax_resnet.cpu_kernels import choose
from parity.environment import jax_versions
from parity.verify.case import Case


def subject(case: Case) -> str:
    """What is checked, in a phrase."""
    d = case.description
    return f"{d.arch}, {d.stem} stem, width {d.width}, {d.num_classes} classes; seed {case.seed}"


def device_of_trainers() -> str:
    """Where PyTorch's trainers compute (levels 7, 9, 10); the other levels' reference is on the CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def environment(case: Case) -> dict[str, str]:
    """Versions, devices and what decides about precision."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        **jax_versions(),
        "torch": torch.__version__,
        "torch device": f"cpu; in trainers {device_of_trainers()}",
        "numpy": np.__version__,
        "jax device": f"{jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
        "kernels in f32 and bf16": choose(case.cpu_kernels, "f32")[1],
        "torch threads": str(torch.get_num_threads()),
        "jax_enable_x64": "True, but False in trainers of f32 and bf16",
        "jax_default_matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
        "convolution precision in Flax": "HIGHEST for f32 and f64",
        "TF32 in torch": f"cuDNN {torch.backends.cudnn.allow_tf32}, "
        f"matmul {torch.backends.cuda.matmul.allow_tf32}",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }
