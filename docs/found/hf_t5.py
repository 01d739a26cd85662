"""transformers 4.57.6: T5: encoder and decoder, relative positions, tied embeddings, linen beside PyTorch; with the clip(a_max=) that JAX has lost."""
import types
import jax.numpy as jnp
import numpy as np
import parity
from transformers.models.t5 import modeling_flax_t5
from transformers import FlaxT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert

modeling_flax_t5.jnp = types.SimpleNamespace(**{**vars(jnp), "clip": lambda x, a_max: jnp.minimum(x, a_max)})


def pair():
    config = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0)
    torch_model, flax_model = T5ForConditionalGeneration(config), FlaxT5ForConditionalGeneration(config)
    ids, mask = np.random.default_rng(0).integers(3, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    target, seen = np.random.default_rng(1).integers(3, 97, (3, 7)), (np.arange(7) < [[7], [4], [6]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=seen)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, deterministic=not train).logits)
