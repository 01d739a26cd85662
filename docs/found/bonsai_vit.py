"""jax-ml/bonsai ViT (NNX) beside transformers' ViT, with bonsai's own converter."""
import tempfile
import numpy as np
import parity
from bonsai.models.vit import modeling, params
from flax import nnx
from safetensors.numpy import save_file
from transformers import ViTConfig, ViTForImageClassification


def pair():
    torch_model = ViTForImageClassification(ViTConfig(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32,
                                            patch_size=8, num_labels=10, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    config = modeling.ModelConfig((32, 32), (8, 8), 3, 48, 0.0, 0.0, 4, 96, 1e-12, 2, 10)

    def weights(tensors):
        with tempfile.TemporaryDirectory() as folder:
            save_file(tensors, folder + "/model.safetensors")
            return params.create_vit_from_pretrained(folder, config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    return parity.Pair(torch_model, modeling.ViTClassificationModel(config, rngs=nnx.Rngs(0)), inputs=[images], weights=weights,
                       torch_call=lambda m, x, train: m(x).logits, flax_call=lambda m, x, train: m(x, rngs=None))
