"""What a network runs with: the device, float32 that means float32, and a line about both for the log."""

from __future__ import annotations

import torch


def set_up() -> torch.device:
    """Switch TF32 off for the whole process, which PyTorch has no narrower way for; return the device."""
    # Not by the newer fp32_precision: once it is set for cuDNN, reading cudnn.allow_tf32 is an error, and
    # PyTorch 2.14 itself reads that, in torch.backends.cudnn.flags() and when it compiles convolutions.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def runtime(device: torch.device, processes: int = 1) -> str:
    """Library version and device, for the log; of several processes one's device."""
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    where = device.type if processes == 1 else f"{processes} × {device.type}"
    return f"PyTorch {torch.__version__} on {where} ({name})"
