"""jax-ml/bonsai ConvNeXt (NNX) beside transformers' ConvNeXt: depthwise convolution, layer scale; weights proposed by the tool."""
import numpy as np
import parity
from bonsai.models.convnext import modeling
from flax import nnx
from transformers import ConvNextConfig, ConvNextForImageClassification


def pair():
    shape = dict(depths=[1, 1, 2, 1], hidden_sizes=[16, 24, 32, 48])
    torch_model = ConvNextForImageClassification(ConvNextConfig(**shape, num_labels=10))
    config = modeling.ModelConfig(shape["depths"], shape["hidden_sizes"], drop_path_rate=0.0, num_classes=10)
    images = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    return parity.Pair(torch_model, modeling.ConvNeXt(config, rngs=nnx.Rngs(0)), inputs=[images],
                       torch_call=lambda m, x, train: m(x).logits, flax_call=lambda m, x, train: m(x, rngs=None, train=train))
