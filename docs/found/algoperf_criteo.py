"""mlcommons/algorithmic-efficiency: DLRM-Small of Criteo, linen beside PyTorch: ids within a float array, an embedding in four chunks."""
import jax
import numpy as np
import parity
from algoperf.workloads.criteo1tb.criteo1tb_jax import models as jax_models
from algoperf.workloads.criteo1tb.criteo1tb_pytorch import models as torch_models


def pair():
    config = dict(vocab_size=64, mlp_bottom_dims=(32, 128), mlp_top_dims=(48, 32, 1), embed_dim=128)
    torch_model, module = torch_models.DlrmSmall(**config), jax_models.DlrmSmall(**config)
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(5, 13)), rng.integers(0, 1000, (5, 26)) + 0.5], 1).astype(np.float32)
    variables = module.init(jax.random.key(0), x, train=False)
    weights = {"embedding_table": ([f"embedding_chunk_{i}" for i in range(4)], lambda *chunks: np.concatenate(chunks))}
    return parity.Pair(torch_model, (module, variables), inputs=[x], weights=weights, torch_call=lambda m, x, train: m(x),
                       flax_call=lambda m, x, train: m(x, train=train, rngs={"dropout": jax.random.key(0)}))
