"""The same ResNet in PyTorch: the reference.

File for file the mirror of flax_resnet, but for those that CONTRIBUTING.md names.
"""

from torch_ref.predict import load
from torch_ref.processes import join
from torch_ref.summary import layer_rows
from torch_ref.trainer import Trainer

__all__ = ["Trainer", "join", "layer_rows", "load"]
