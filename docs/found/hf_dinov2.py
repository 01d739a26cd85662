"""transformers 4.57.6: DINOv2: layer scale, register-free ViT, linen beside PyTorch."""
import numpy as np
import parity
from transformers import Dinov2Config, Dinov2ForImageClassification, FlaxDinov2ForImageClassification
from transformers.modeling_flax_pytorch_utils import convert_pytorch_state_dict_to_flax as convert


def pair():
    config = Dinov2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8, num_labels=10, hidden_dropout_prob=0.0)
    torch_model, flax_model = Dinov2ForImageClassification(config), FlaxDinov2ForImageClassification(config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    return parity.Pair(torch_model, (flax_model.module, {"params": flax_model.params}), [images], weights=lambda tensors: convert(tensors, flax_model),
                       torch_call=lambda m, x, train: m(x).logits,
                       flax_call=lambda m, x, train: m(x, deterministic=not train).logits)
