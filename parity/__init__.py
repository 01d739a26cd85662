"""The proof that both engines compute the same, and the way of checkpoints between them."""

from typing import Any

__all__ = ["to_flax", "to_torch"]


def __getattr__(name: str) -> Any:
    """Import what needs both frameworks when it is asked for: tools.aot runs where there is no PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from parity.convert import api as in_memory

    return getattr(in_memory, name)
