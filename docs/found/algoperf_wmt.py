"""mlcommons/algorithmic-efficiency: the transformer of WMT, linen beside PyTorch, with packed sentences: block and causal masks, shared embedding, fused q, k, v."""
import jax
import numpy as np
import parity
from algoperf.workloads.wmt.wmt_jax import models as jax_models
from algoperf.workloads.wmt.wmt_pytorch import models as torch_models


def pair():
    torch_model = torch_models.Transformer(ntoken=97, d_model=32, nhead=4, d_hid=32, nlayers=2)
    module = jax_models.Transformer(jax_models.TransformerConfig(vocab_size=97, emb_dim=32, num_heads=4, num_layers=2, qkv_dim=32, mlp_dim=32, deterministic=True))
    rng = np.random.default_rng(0)
    source, target = rng.integers(1, 97, (3, 11)), rng.integers(1, 97, (3, 9))  # two sentences in each row
    where, which = zip(*[(np.r_[:a, :b] + 0 * t, np.repeat([1, 2], (a, b)) + 0 * t) for t, (a, b) in ((source, (7, 4)), (target, (5, 4)))])
    arrays = [source, target, *where, *which]
    variables, weights = module.init(jax.random.key(0), *arrays), {}
    part = lambda n, i: lambda w: np.split(w, n)[i].T.reshape(32, 4, 8)
    for side, block, i, name, n in [(s, b, i, k, n) for s, b in (("encoder", "encoderblock"), ("decoder", "encoderdecoderblock")) for i in (0, 1) for n, k in enumerate(("query", "key", "value"))]:
        weights[f"{side}.{block}_{i}.MultiHeadDotProductAttention_0.{name}.kernel"] = ([f"{side}.{side}.layers.{i}.self_attn.in_proj.weight"], part(3, n))
        if side == "decoder" and n:
            weights[f"{side}.{block}_{i}.MultiHeadDotProductAttention_1.{name}.kernel"] = ([f"{side}.{side}.layers.{i}.multihead_attn.kv_proj.weight"], part(2, n - 1))
    return parity.Pair(torch_model, (module, variables), inputs=arrays, weights=weights, torch_call=lambda m, *x, train: m(*x),
                       flax_call=lambda m, *x, train: m(*x))
