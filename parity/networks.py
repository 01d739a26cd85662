"""A checkpoint's network in either framework, for comparisons on the same input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from flax_resnet.train_state import abstract_model, fit
from parity.tensors import to_tensor
from parity.trees import Arrays, split
from recipe.architectures import ModelDescription
from torch_ref.train_state import fit as fit_torch
from torch_ref.train_state import make_model


def flax_logits(
    description: ModelDescription, model: Arrays, images: np.ndarray, precision: str
) -> np.ndarray:
    """Logits (N, classes) of standardised images (N, H, W, 3) in eval mode, from the Flax network.

    float64 must be enabled, whatever the precision ("f32" or "f64").
    """
    graphdef, params, batch_stats = abstract_model(description, precision)
    tree = split(model)

    @jax.jit
    def forward(params: dict, batch_stats: dict, images: jax.Array) -> jax.Array:
        network = nnx.merge(graphdef, params, batch_stats)
        network.eval()
        return network(images)

    dtype = {"f32": jnp.float32, "f64": jnp.float64}[precision]
    variables = fit(tree["params"], params), fit(tree["batch_stats"], batch_stats)
    return np.asarray(forward(*variables, jnp.asarray(images, dtype)))


def torch_logits(
    description: ModelDescription, model: Arrays, images: np.ndarray, precision: str
) -> np.ndarray:
    """The same from the PyTorch network."""
    network = make_model(description, precision, torch.device("cpu")).eval()
    fit_torch({name: to_tensor(array) for name, array in model.items()}, network)
    dtype = {"f32": torch.float32, "f64": torch.float64}[precision]
    with torch.inference_mode():
        return network(torch.from_numpy(images).to(dtype).permute(0, 3, 1, 2)).numpy()
