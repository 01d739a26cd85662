"""The proof that two networks compute the same, and the way of checkpoints between the frameworks."""

from typing import Any

_PLACES = {
    "compare": "comparison.api",
    "assert_same": "comparison.api",
    "Pair": "comparison.pair",
    "Arguments": "comparison.inputs",
    "describe": "comparison.offline.describe",
    "record": "comparison.offline.record",
    "Recorded": "comparison.halves",
    "TorchHalf": "comparison.halves",
    "FlaxHalf": "comparison.halves",
    "to_flax": "convert.api",
    "to_torch": "convert.api",
}
__all__ = [
    "Arguments", "FlaxHalf", "Pair", "Recorded", "TorchHalf", "assert_same", "compare", "describe", "record",
    "to_flax", "to_torch",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a part when it is asked for: tools.aot runs where there is no PyTorch."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"parity.{_PLACES[name]}"), name)
