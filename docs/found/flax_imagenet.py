"""google/flax examples/imagenet: ResNet-50's network, two stages (linen), beside torchvision's ResNet; weights proposed by the tool."""
import sys
import jax
import numpy as np
import parity
from torchvision.models.resnet import Bottleneck, ResNet
sys.path.insert(0, __import__("os").environ["PAIRS"] + "/google+flax/examples/imagenet")
import models


def pair():
    torch_model, module = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=10), models.ResNet([1, 1, 1, 1], models.BottleneckResNetBlock, num_classes=10)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    variables = module.init(jax.random.key(0), images.transpose(0, 2, 3, 1), train=False)
    return parity.Pair(torch_model, (module, variables), inputs=[images], flax_call=lambda m, x, train: m(x, train=train),
                       modes=("eval",))  # its batch norms want an axis "batch" in training
