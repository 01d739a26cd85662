"""jax-ml/bonsai ResNet (NNX) beside transformers' ResNet, with bonsai's own converter."""
import tempfile
import numpy as np
import parity
from bonsai.models.resnet import modeling, params
from flax import nnx
from safetensors.numpy import save_file
from transformers import ResNetConfig, ResNetForImageClassification


def pair():
    torch_model = ResNetForImageClassification(ResNetConfig(depths=[1, 2, 1, 1], num_labels=10))
    config = modeling.ModelConfig([1, 2, 1, 1], num_classes=10)

    def weights(tensors):
        with tempfile.TemporaryDirectory() as folder:
            save_file(tensors, folder + "/model.safetensors")
            return params.create_resnet_from_pretrained(folder, config)
    images = np.random.default_rng(0).normal(size=(4, 3, 48, 48)).astype(np.float32)
    return parity.Pair(torch_model, modeling.ResNet(config, rngs=nnx.Rngs(0)), inputs=[images], weights=weights,
                       torch_call=lambda m, x, train: m(x).logits)
