"""The proof that both engines compute the same, and the way of checkpoints between them."""

from parity.in_memory import to_flax, to_torch

__all__ = ["to_flax", "to_torch"]
