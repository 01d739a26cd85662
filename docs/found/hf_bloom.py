"""transformers 4.57.6: BLOOM: ALiBi, fused q, k, v, linen beside PyTorch."""
import numpy as np
import parity
from transformers import BloomConfig, BloomForCausalLM, FlaxBloomForCausalLM
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = BloomConfig(vocab_size=97, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.0, attention_dropout=0.0)
    torch_model, flax_model = BloomForCausalLM(config), FlaxBloomForCausalLM(config)
    ids, mask = np.random.default_rng(0).integers(3, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, deterministic=not train).logits)
