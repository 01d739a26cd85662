"""What proves nothing about parity: programs for accelerators that are not here, and timings of kernels."""
