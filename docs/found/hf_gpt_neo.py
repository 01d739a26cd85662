"""transformers 4.57.6: GPT-Neo: global and local attention, linen beside PyTorch."""
import numpy as np
import parity
from transformers import FlaxGPTNeoForCausalLM, GPTNeoConfig, GPTNeoForCausalLM
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = GPTNeoConfig(vocab_size=97, hidden_size=32, num_layers=2, attention_types=[[["global", "local"], 1]], num_heads=4, window_size=4,
                          max_position_embeddings=24, resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0)
    torch_model, flax_model = GPTNeoForCausalLM(config), FlaxGPTNeoForCausalLM(config)
    ids, mask = np.random.default_rng(0).integers(3, 97, (3, 12)), (np.arange(12) < [[12], [11], [9]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, position_ids=np.arange(12) + 0 * ids)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, deterministic=not train).logits)
