"""transformers 4.57.6: BERT for masked words, linen beside PyTorch: tied embeddings, integers, padding."""
import numpy as np
import parity
from transformers import BertConfig, BertForMaskedLM, FlaxBertForMaskedLM
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = BertConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=24,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch_model, flax_model = BertForMaskedLM(config), FlaxBertForMaskedLM(config)
    ids, mask = np.random.default_rng(0).integers(0, 97, (3, 12)), (np.arange(12) < [[12], [9], [5]]).astype(np.int64)
    inputs = dict(input_ids=ids, attention_mask=mask, token_type_ids=ids % 2, position_ids=np.arange(12) + 0 * ids)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, head_mask=None, deterministic=not train).logits)
