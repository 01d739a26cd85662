"""transformers 4.57.6: BEiT: relative position bias, layer scale, linen beside PyTorch; no paths are dropped."""
import numpy as np
import parity
from transformers import BeitConfig, BeitForImageClassification, FlaxBeitForImageClassification
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = BeitConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8, num_labels=10,
                        use_relative_position_bias=True, use_mean_pooling=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, drop_path_rate=0.0)
    torch_model, flax_model = BeitForImageClassification(config), FlaxBeitForImageClassification(config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), [images], weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, x, train: m(x).logits,
                       flax_call=lambda m, x, train: m(x, deterministic=not train).logits)
