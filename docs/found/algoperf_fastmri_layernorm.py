"""mlcommons/algorithmic-efficiency: FastMRI's U-Net of the workload fastmri_layernorm (group norm of one group beside layer norm)."""
import jax
import numpy as np
import parity
from algoperf.workloads.fastmri.fastmri_jax import models as jax_models
from algoperf.workloads.fastmri.fastmri_pytorch import models as torch_models


def pair():
    torch_model = torch_models.UNet(num_channels=8, num_pool_layers=2, use_layer_norm=True)
    module = jax_models.UNet(num_channels=8, num_pool_layers=2, use_layer_norm=True)
    images = np.random.default_rng(0).normal(size=(2, 16, 16)).astype(np.float32)
    variables = module.init(jax.random.key(0), images, train=False)
    return parity.Pair(torch_model, (module, variables), inputs=[images], torch_call=lambda m, x, train: m(x[:, None])[:, 0],
                       flax_call=lambda m, x, train: m(x, train=train, rngs={"dropout": jax.random.key(0)}))
