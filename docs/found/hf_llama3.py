"""transformers 4.57.6: Llama with the rotary base of Llama 3, linen beside PyTorch."""
import numpy as np
import parity
from transformers import FlaxLlamaForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=24, rope_theta=500000.0)
    torch_model, flax_model = LlamaForCausalLM(config), FlaxLlamaForCausalLM(config)
    ids, mask = np.random.default_rng(0).integers(3, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, position_ids=np.arange(12) + 0 * ids)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, deterministic=not train).logits)
