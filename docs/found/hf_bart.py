"""transformers 4.57.6: BART: encoder and decoder, tied embeddings, linen beside PyTorch."""
import numpy as np
import parity
from transformers import BartConfig, BartForConditionalGeneration, FlaxBartForConditionalGeneration
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = BartConfig(vocab_size=97, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
                        encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=24, dropout=0.0)
    torch_model, flax_model = BartForConditionalGeneration(config), FlaxBartForConditionalGeneration(config)
    ids, mask = np.random.default_rng(0).integers(3, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    target, seen = np.random.default_rng(1).integers(3, 97, (3, 7)), (np.arange(7) < [[7], [4], [6]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=seen)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, position_ids=np.arange(12) + 0 * ids, decoder_position_ids=np.arange(7) + 0 * target, deterministic=not train).logits)
