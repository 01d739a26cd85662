"""mlcommons/algorithmic-efficiency: the ViT of AlgoPerf, linen beside PyTorch; weights proposed by the tool."""
import jax
import numpy as np
import parity
from algoperf.workloads.imagenet_vit.imagenet_jax import models as jax_models
from algoperf.workloads.imagenet_vit.imagenet_pytorch import models as torch_models


def pair():
    config = dict(num_classes=10, patch_size=(8, 8), width=48, depth=2, mlp_dim=96, num_heads=4)
    torch_model, module = torch_models.ViT(**config), jax_models.ViT(**config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    variables = module.init(jax.random.key(0), images.transpose(0, 2, 3, 1))
    return parity.Pair(torch_model, (module, variables), inputs=[images], torch_call=lambda m, x, train: m(x),
                       flax_call=lambda m, x, train: m(x, train=train, rngs={"dropout": jax.random.key(0)}))
