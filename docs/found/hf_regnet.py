"""transformers 4.57.6: RegNet: grouped convolution, squeeze and excitation, batch norm, linen beside PyTorch."""
import numpy as np
import parity
from transformers import FlaxRegNetForImageClassification, RegNetConfig, RegNetForImageClassification
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = RegNetConfig(embedding_size=8, hidden_sizes=[16, 24, 32, 48], depths=[1, 2, 1, 1], groups_width=8, layer_type="y", num_labels=10)
    torch_model, flax_model = RegNetForImageClassification(config), FlaxRegNetForImageClassification(config)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    return parity.Pair(torch_model, (flax_model.module, flax_model.params), [images], weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, x, train: m(x).logits,
                       flax_call=lambda m, x, train: m(x, deterministic=not train).logits)
