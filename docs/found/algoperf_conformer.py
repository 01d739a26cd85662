"""mlcommons/algorithmic-efficiency: the Conformer of LibriSpeech in its GELU variant, linen beside PyTorch: sound with padding, masked batch norm.

The logits are compared where there is sound, as in tests/modeldiffs/librispeech_conformer_gelu/compare.py."""
import jax
import numpy as np
import parity
from algoperf.workloads.librispeech_conformer.librispeech_jax import models as jax_models
from algoperf.workloads.librispeech_conformer.librispeech_pytorch import models as torch_models


def pair():
    config = dict(vocab_size=17, encoder_dim=32, num_attention_heads=4, num_encoder_layers=1, use_specaug=False, activation_function_name="gelu")
    torch_model, module = torch_models.ConformerEncoderDecoder(torch_models.ConformerConfig(**config)), jax_models.Conformer(jax_models.ConformerConfig(**config))
    sound, padding = np.random.default_rng(0).normal(size=(2, 8000)).astype(np.float32), (np.arange(8000) >= [[8000], [5000]]).astype(np.int64)
    variables, weights, seen = module.init(jax.random.key(0), sound, padding.astype(np.float32), train=False), {}, lambda o: o[0] * (1 - o[1][:, :, None])
    at = "ConformerBlock_0.MultiHeadedSelfAttention_0.MultiHeadDotProductAttention_0"
    for i, name in enumerate(["query", "key", "value"]):
        weights[f"{at}.{name}.kernel"] = (["conformers.0.mhsa.self_attention.in_proj.weight"], lambda w, i=i: np.split(w, 3)[i].T.reshape(32, 4, 8))
        weights[f"{at}.{name}.bias"] = (["conformers.0.mhsa.self_attention.in_proj.bias"], lambda b, i=i: np.split(b, 3)[i].reshape(4, 8))
    return parity.Pair(torch_model, (module, variables), inputs=[sound, padding], weights=weights, torch_call=lambda m, x, p, train: seen(m(x, p.to(x.dtype), dropout_rate=0.0)),
                       flax_call=lambda m, x, p, train: seen(m(x, p.astype(x.dtype), train=train, dropout_rate=0.0, rngs={"dropout": jax.random.key(0)})))
