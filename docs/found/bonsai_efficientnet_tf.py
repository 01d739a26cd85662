"""jax-ml/bonsai EfficientNet in the configuration of its B5 to B7 (width and depth of B0) beside timm's tf_efficientnet, with bonsai's own converter."""
import dataclasses
import numpy as np
import parity
import timm
from bonsai.models.efficientnet import modeling, params
from flax import nnx


def pair():
    torch_model = timm.create_model("tf_efficientnet_b0", num_classes=10, drop_rate=0.0)
    config = dataclasses.replace(modeling.ModelConfig.b5(num_classes=10), width_coefficient=1.0, depth_coefficient=1.0)
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    return parity.Pair(torch_model, modeling.EfficientNet(config, rngs=nnx.Rngs(0)), inputs=[images],
                       weights=lambda tensors: params.load_pretrained_weights(modeling.EfficientNet(config, rngs=nnx.Rngs(0)), tensors),
                       flax_call=lambda m, x, train: m(x, training=train))
