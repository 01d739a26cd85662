"""mlcommons/algorithmic-efficiency: the CIFAR ResNet of AlgoPerf, linen beside PyTorch; weights proposed by the tool."""
import jax
import numpy as np
import parity
from algoperf.workloads.cifar.cifar_jax import models as jax_models
from algoperf.workloads.cifar.cifar_pytorch import models as torch_models


def pair():
    torch_model = torch_models.ResNet(torch_models.BasicBlock, [1, 1, 1, 1])
    module = jax_models.ResNet(stage_sizes=(1, 1, 1, 1), block_cls=jax_models.ResNetBlock)
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    variables = module.init(jax.random.key(0), images.transpose(0, 2, 3, 1), update_batch_norm=False)
    return parity.Pair(torch_model, (module, variables), inputs=[images], flax_call=lambda m, x, train: m(x, update_batch_norm=train))
