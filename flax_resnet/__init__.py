"""ResNet for CIFAR in JAX/Flax NNX: model, training, checkpoints, prediction."""

from flax_resnet.predict import load
from flax_resnet.summary import layer_rows
from flax_resnet.trainer import Trainer

__all__ = ["Trainer", "layer_rows", "load"]
