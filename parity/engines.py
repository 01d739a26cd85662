"""Both engines' networks behind one interface: NumPy arrays in, NumPy arrays out.

Images and activations are (N, H, W, C), tensors have PyTorch's names and layout, in both engines.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import Tensor

import torch_ref.steps
from flax_resnet.train_state import DTYPES as FLAX_DTYPES
from flax_resnet.train_state import abstract_model, fit
from parity.arrays import split
from parity.tensors import to_tensor
from parity.threads import safe_threads
from recipe.architectures import ModelDescription
from recipe.state_dict import Arrays
from torch_ref.train_state import DTYPES as TORCH_DTYPES
from torch_ref.train_state import fit as fit_torch
from torch_ref.train_state import make_model

CPU = torch.device("cpu")


class TorchNetwork:
    """The reference; on the CPU unless told."""

    def __init__(
        self,
        description: ModelDescription,
        model: Arrays,
        precision: str,
        device: torch.device = CPU,
    ):
        self.precision, self.device = precision, device
        self.network = make_model(description, precision, device)
        fit_torch({name: to_tensor(array) for name, array in model.items()}, self.network)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map standardised images (N, H, W, 3) to logits (N, classes) in eval mode."""
        with torch.inference_mode(), torch_ref.steps.autocast(self.precision, self.device):
            return to_float(self.network.eval()(self.tensor(images)))

    def gradients(self, images: np.ndarray, labels: np.ndarray, label_smoothing: float) -> Arrays:
        """The loss's gradients by parameter, in train mode; statistics are put back."""
        before = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        self.network.train()
        self.network.zero_grad()
        with torch_ref.steps.autocast(self.precision, self.device):
            logits = self.network(self.tensor(images))
        targets = torch.from_numpy(labels).to(self.device)
        loss = torch_ref.steps.cross_entropy(logits, targets, label_smoothing)
        with safe_threads(self.network):
            loss.backward()
        with torch.no_grad():
            for name, buffer in self.network.named_buffers():
                buffer.copy_(before[name])
        return {name: to_float(param.grad) for name, param in self.network.named_parameters()}

    def tensor(self, images: np.ndarray) -> Tensor:
        """Images in the precision's dtype, on the network's device, NCHW by name."""
        dtype = TORCH_DTYPES[self.precision][1]
        return torch.from_numpy(images).to(self.device, dtype).permute(0, 3, 1, 2)


class FlaxNetwork:
    """The network that is compared with the reference."""

    def __init__(
        self, description: ModelDescription, model: Arrays, precision: str, cpu_kernels: str = "auto"
    ):
        self._graphdef, params, batch_stats = abstract_model(description, precision, cpu_kernels)
        tree = split(model)
        self.params, self.batch_stats = fit(tree["params"], params), fit(tree["batch_stats"], batch_stats)
        self._dtype = FLAX_DTYPES[precision][1]
        self._logits = jax.jit(self._eval)  # traced once per shape

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map standardised images (N, H, W, 3) to logits (N, classes) in eval mode, by one program."""
        return to_float(self._logits(self.params, self.batch_stats, jnp.asarray(images, self._dtype)))

    @property
    def network(self) -> nnx.Module:
        """The network as a module, with its weights."""
        return nnx.merge(self._graphdef, self.params, self.batch_stats)

    def _eval(self, params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        network = nnx.merge(self._graphdef, params, batch_stats)
        network.eval()
        return network(images)


def to_float(array: Any) -> np.ndarray:
    """Any array as float64 in NumPy."""
    if isinstance(array, Tensor):
        return array.detach().double().numpy(force=True).copy()  # float64 would share memory
    return np.asarray(array).astype(np.float64)
