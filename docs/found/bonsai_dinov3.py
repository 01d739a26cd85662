"""jax-ml/bonsai DINOv3 (NNX) beside transformers' DINOv3, with bonsai's own converter; positions not rescaled at random in training."""
import tempfile
import numpy as np
import parity
from bonsai.models.dinov3 import modeling, params
from safetensors.numpy import save_file
from transformers import DINOv3ViTConfig, DINOv3ViTModel
from flax import nnx


def pair():
    shape = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=32)
    torch_model = DINOv3ViTModel(DINOv3ViTConfig(**shape, patch_size=8, num_register_tokens=4, pos_embed_rescale=None))
    config = modeling.ModelConfig(**shape, patch_size=(8, 8))

    def weights(tensors):
        with tempfile.TemporaryDirectory() as folder:
            save_file(tensors, folder + "/model.safetensors")
            return params.create_model_from_safe_tensors(folder, config)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    return parity.Pair(torch_model, modeling.Dinov3ViTModel(config, rngs=nnx.Rngs(0)), inputs=[images], weights=weights, flax_inputs=lambda inputs: inputs)
