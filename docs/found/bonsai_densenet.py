"""jax-ml/bonsai DenseNet (NNX) beside torchvision's, small; weights proposed by the tool. (bonsai ported Keras' network, not torchvision's.)"""
import numpy as np
import parity
from bonsai.models.densenet121 import modeling
from flax import nnx
from torchvision.models import DenseNet


def pair():
    torch_model = DenseNet(growth_rate=8, block_config=(2, 2, 2), num_init_features=16, num_classes=10)
    config = modeling.ModelConfig(num_classes=10, dense_block_layers=[2, 2, 2], growth_rate=8)
    images = np.random.default_rng(0).normal(size=(3, 3, 64, 64)).astype(np.float32)
    return parity.Pair(torch_model, modeling.DenseNet(config, rngs=nnx.Rngs(0)), inputs=[images])
