"""mlcommons/algorithmic-efficiency: the U-Net of FastMRI, linen beside PyTorch: instance norm, transposed convolutions; odd sizes (reflected padding)."""
import jax
import numpy as np
import parity
from algoperf.workloads.fastmri.fastmri_jax import models as jax_models
from algoperf.workloads.fastmri.fastmri_pytorch import models as torch_models


def pair():
    torch_model = torch_models.UNet(num_channels=8, num_pool_layers=2)
    module = jax_models.UNet(num_channels=8, num_pool_layers=2)
    images = np.random.default_rng(0).normal(size=(2, 18, 22)).astype(np.float32)
    variables = module.init(jax.random.key(0), images, train=False)
    return parity.Pair(torch_model, (module, variables), inputs=[images], torch_call=lambda m, x, train: m(x[:, None])[:, 0],
                       flax_call=lambda m, x, train: m(x, train=train, rngs={"dropout": jax.random.key(0)}))
