"""Where PyTorch must not compute with several threads; known here without PyTorch."""

from __future__ import annotations

from typing import Any


def needs_one_thread(network: Any) -> bool:
    """Whether several threads may write a gradient of a PyTorch network outside of its memory.

    PyTorch 2.14's oneDNN does so on processors with AVX-512, in float32 (`jit_1x1`) and bfloat16
    (`jit_bf16_1x1`): for the kernel of a 1×1 convolution that has a stride, fewer than 16 input channels, and
    images whose channels are last in memory. The process crashes, then or later.

    Args:
      network: a `torch.nn.Module`. None of this project's has such a layer at the width that is its own.
    """
    return any(
        type(layer).__name__ == "Conv2d"
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < 16
        and str(layer.weight.dtype) != "torch.float64"  # which oneDNN does not take
        for layer in network.modules()
    )
