"""What decides about a framework's speed and precision: versions, device, threads, flags.

Each framework is imported only where its facts are asked for: a process that is timed loads one of them.
"""

from __future__ import annotations

import os


def jax_versions() -> dict[str, str]:
    """Package → version, of JAX and what the product builds on it."""
    import flax
    import jax
    import jaxlib
    import optax

    return {
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
    }


def jax_facts() -> dict[str, str]:
    """Versions, the kind of the first device, and XLA's flags."""
    import jax

    return {
        **jax_versions(),
        "jax device": jax.devices()[0].device_kind,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def torch_facts() -> dict[str, str]:
    """Version, device, threads, and what decides about kernels and their precision."""
    import torch

    return {
        "torch": torch.__version__,
        "torch device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch threads": str(torch.get_num_threads()),
        "torch CPU capability": torch.backends.cpu.get_cpu_capability(),
        "torch oneDNN": str(torch.backends.mkldnn.is_available()),
        "TF32 in torch": str(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }
