"""mlcommons/algorithmic-efficiency: the graph network of OGBG, linen beside PyTorch: graphs by integer indices, gathers and scatters."""
import jax
import jraph
import numpy as np
import parity
from algoperf.workloads.ogbg.ogbg_jax import models as jax_models
from algoperf.workloads.ogbg.ogbg_pytorch import models as torch_models


def pair():
    config = dict(num_outputs=7, latent_dim=24, hidden_dims=(24,), num_message_passing_steps=2)
    torch_model, module = torch_models.GNN(**config), jax_models.GNN(**config)
    rng = np.random.default_rng(0)
    inputs = dict(nodes=rng.normal(size=(9, 9)).astype(np.float32), edges=rng.normal(size=(14, 3)).astype(np.float32), n_node=np.array([4, 5]), n_edge=np.array([6, 8]),
                  senders=np.r_[rng.integers(0, 4, 6), rng.integers(4, 9, 8)], receivers=np.r_[rng.integers(0, 4, 6), rng.integers(4, 9, 8)])
    graph = lambda **x: jraph.GraphsTuple(**x, globals=None)
    variables = module.init(jax.random.key(0), graph(**inputs), train=False)
    return parity.Pair(torch_model, (module, variables), inputs, torch_call=lambda m, train, **x: m(graph(**x), dropout_rate=0.0),
                       flax_call=lambda m, train, **x: m(graph(**x), train=train, dropout_rate=0.0, rngs={"dropout": jax.random.key(0)}))
