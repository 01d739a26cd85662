"""mlcommons/algorithmic-efficiency: the ImageNet ResNet of AlgoPerf with bottlenecks, linen beside PyTorch; weights proposed by the tool."""
import jax
import numpy as np
import parity
from algoperf.workloads.imagenet_resnet.imagenet_jax import models as jax_models
from algoperf.workloads.imagenet_resnet.imagenet_pytorch import models as torch_models


def pair():
    torch_model = torch_models.ResNet(torch_models.Bottleneck, [1, 1, 1, 1], num_classes=10)
    module = jax_models.ResNet(stage_sizes=(1, 1, 1, 1), block_cls=jax_models.BottleneckResNetBlock, num_classes=10)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    variables = module.init(jax.random.key(0), images.transpose(0, 2, 3, 1), update_batch_norm=False)
    return parity.Pair(torch_model, (module, variables), inputs=[images], flax_call=lambda m, x, train: m(x, update_batch_norm=train))
