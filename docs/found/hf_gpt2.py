"""transformers 4.57.6: GPT-2, linen beside PyTorch: fused q, k, v; tied embeddings; causal mask."""
import numpy as np
import parity
from transformers import FlaxGPT2LMHeadModel, GPT2Config, GPT2LMHeadModel
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = GPT2Config(vocab_size=97, n_positions=24, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    torch_model, flax_model = GPT2LMHeadModel(config), FlaxGPT2LMHeadModel(config)
    ids, mask = np.random.default_rng(0).integers(0, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, position_ids=np.arange(12) + 0 * ids)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits, flax_call=lambda m, train, **x: m(**x, deterministic=not train).logits)
