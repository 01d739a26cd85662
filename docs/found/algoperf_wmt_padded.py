"""mlcommons/algorithmic-efficiency: the transformer of WMT, linen beside PyTorch, with padded sentences; logits compared where there are
targets, as the loss weighs them. Rows of padding have every key masked: there float64 differs, and float32 doesn't."""
import jax
import numpy as np
import parity
from algoperf.workloads.wmt.wmt_jax import models as jax_models
from algoperf.workloads.wmt.wmt_pytorch import models as torch_models


def pair():
    torch_model = torch_models.Transformer(ntoken=97, d_model=32, nhead=4, d_hid=32, nlayers=2)
    module = jax_models.Transformer(jax_models.TransformerConfig(vocab_size=97, emb_dim=32, num_heads=4, num_layers=2, qkv_dim=32, mlp_dim=32, deterministic=True))
    rng = np.random.default_rng(0)
    source, target = (rng.integers(1, 97, (3, n)) * (np.arange(n) < lengths) for n, lengths in ((11, [[11], [8], [5]]), (9, [[9], [6], [4]])))
    variables, weights = module.init(jax.random.key(0), source, target), {}
    part = lambda n, i: lambda w: np.split(w, n)[i].T.reshape(32, 4, 8)
    for side, block, i, name, n in [(s, b, i, k, n) for s, b in (("encoder", "encoderblock"), ("decoder", "encoderdecoderblock")) for i in (0, 1) for n, k in enumerate(("query", "key", "value"))]:
        weights[f"{side}.{block}_{i}.MultiHeadDotProductAttention_0.{name}.kernel"] = ([f"{side}.{side}.layers.{i}.self_attn.in_proj.weight"], part(3, n))
        if side == "decoder" and n:
            weights[f"{side}.{block}_{i}.MultiHeadDotProductAttention_1.{name}.kernel"] = ([f"{side}.{side}.layers.{i}.multihead_attn.kv_proj.weight"], part(2, n - 1))
    return parity.Pair(torch_model, (module, variables), inputs=[source, target], weights=weights, torch_call=lambda m, s, t, train: m(s, t) * (t > 0)[..., None],
                       flax_call=lambda m, s, t, train: m(s, t) * (t > 0)[..., None])
