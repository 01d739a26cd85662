"""ResNet for CIFAR in JAX/Flax NNX: model, training, checkpoints, prediction."""

from typing import Any

_PLACES = {"Trainer": "trainer", "join": "processes", "layer_rows": "summary", "load": "predict"}
__all__ = ["Trainer", "join", "layer_rows", "load"]


def __getattr__(name: str) -> Any:
    """Import a part when it is asked for: who reads a checkpoint needs neither optax nor a trainer."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"flax_resnet.{_PLACES[name]}"), name)
