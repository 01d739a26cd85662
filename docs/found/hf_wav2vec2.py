"""transformers 4.57.6: wav2vec 2: 1-d convolutions, group norm, weight norm, linen beside PyTorch."""
import numpy as np
import parity
from transformers import FlaxWav2Vec2ForCTC, Wav2Vec2Config, Wav2Vec2ForCTC
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = Wav2Vec2Config(vocab_size=17, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=(16, 16, 16),
                            conv_kernel=(5, 3, 2), conv_stride=(3, 2, 2), num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2,
                            feat_extract_norm="layer", do_stable_layer_norm=True, hidden_dropout=0.0, activation_dropout=0.0, attention_dropout=0.0,
                            feat_proj_dropout=0.0, final_dropout=0.0, layerdrop=0.0, apply_spec_augment=False)
    torch_model, flax_model = Wav2Vec2ForCTC(config), FlaxWav2Vec2ForCTC(config, input_shape=(1, 400))
    sound, mask = np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32), (np.arange(400) < [[400], [260]]).astype(np.int64)
    inputs = dict(input_values=sound, attention_mask=mask)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), inputs, weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, train, **x: m(**x).logits,
                       flax_call=lambda m, train, **x: m(**x, deterministic=not train, return_dict=True).logits)
