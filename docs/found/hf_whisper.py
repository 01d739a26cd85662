"""transformers 4.57.6: Whisper: 1-d convolutions, encoder and decoder, linen beside PyTorch."""
import numpy as np
import parity
from transformers import FlaxWhisperForConditionalGeneration, WhisperConfig, WhisperForConditionalGeneration
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = WhisperConfig(vocab_size=97, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
                           encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=10, max_source_positions=16, max_target_positions=20, pad_token_id=0,
                           bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, dropout=0.0)
    torch_model, flax_model = WhisperForConditionalGeneration(config), FlaxWhisperForConditionalGeneration(config)
    sound, target = np.random.default_rng(0).normal(size=(3, 10, 32)).astype(np.float32), np.random.default_rng(1).integers(3, 97, (3, 7))
    inputs = dict(input_features=sound, decoder_input_ids=target)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, decoder_attention_mask=np.ones((3, 7)), decoder_position_ids=np.arange(7) + 0 * target, deterministic=not train).logits)
