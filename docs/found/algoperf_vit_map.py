"""mlcommons/algorithmic-efficiency: AlgoPerf's ViT with attention pooling and gated MLPs; the pooling keeps keys and values in one tensor."""
import jax
import numpy as np
import parity
from algoperf.workloads.imagenet_vit.imagenet_jax import models as jax_models
from algoperf.workloads.imagenet_vit.imagenet_pytorch import models as torch_models


def pair():
    config = dict(num_classes=10, patch_size=(8, 8), width=48, depth=2, mlp_dim=96, num_heads=4, use_map=True, use_glu=True)
    torch_model, module = torch_models.ViT(**config), jax_models.ViT(**config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    variables = module.init(jax.random.key(0), images.transpose(0, 2, 3, 1))
    heads, weights = "MAPHead_0.MultiHeadDotProductAttention_0", {}
    for i, name in enumerate(["key", "value"]):
        weights[f"{heads}.{name}.kernel"] = (["map.mha.kv_proj.weight"], lambda w, i=i: np.split(w, 2)[i].T.reshape(48, 4, 12))
        weights[f"{heads}.{name}.bias"] = (["map.mha.kv_proj.bias"], lambda b, i=i: np.split(b, 2)[i].reshape(4, 12))
    return parity.Pair(torch_model, (module, variables), inputs=[images], weights=weights, torch_call=lambda m, x, train: m(x),
                       flax_call=lambda m, x, train: m(x, train=train, rngs={"dropout": jax.random.key(0)}))
