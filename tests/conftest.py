"""Small data, small configs, and both engines behind one fixture.

Both engines compute on the CPU, whatever else there is. With JAX_PLATFORMS=cuda,cpu both compute on a GPU, by
algorithms that add in one order, so that what is equal to the bit on a CPU is so there.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.update(
    {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip(),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # processes share the GPU
    }
    if "cuda" in os.environ["JAX_PLATFORMS"].split(",")
    else {"CUDA_VISIBLE_DEVICES": ""}
)
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # which lives longer than a test's own folder

import jax
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from configs import r18
from flax_resnet.cpu_kernels import build
from recipe.architectures import ModelDescription
from recipe.data import Dataset
from recipe.training.description import describe_model, describe_run

# a busy machine is no failure
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
torch.backends.cudnn.deterministic = True  # a GPU's


@pytest.fixture(scope="session")
def kernels() -> Path | None:
    """The native kernels, from the user's cache or compiled into it; None where they can't be had."""
    try:
        return build.build()
    except build.Unavailable:
        return None


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, kernels: Path | None
) -> None:
    """No test reads or fills the user's cache, but for the native kernels, which take long to compile."""
    caches = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
    if kernels:
        (caches / "flax_resnet").mkdir()
        (caches / "flax_resnet" / kernels.name).symlink_to(kernels)


@pytest.fixture(autouse=True)
def float64() -> None:
    """Enable float64 for tests' own arrays."""
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(params=["flax_resnet", "torch_ref"])
def engine(request: pytest.FixtureRequest) -> Any:
    """Each engine's package in turn."""
    return importlib.import_module(request.param)


@pytest.fixture
def data() -> Dataset:
    """72 training and 20 test images of three classes, which differ in their mean colour."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, count).astype(np.int32)
        images = rng.integers(0, 150, (count, 32, 32, 3)) + 100 * np.eye(3, dtype=int)[labels][:, None, None]
        return images.astype(np.uint8), labels

    train, test = draw(72), draw(20)
    names = ("red", "green", "blue")
    return Dataset("digits", "test data", "a generator", *train, *test, names, (0.4,) * 3, (0.25,) * 3)


@pytest.fixture
def config() -> Any:
    """The thinnest network, 2 epochs of 4 steps with 16 images, 8 left over."""
    config = r18.get_config()
    config.epochs = 2
    config.batch_size = 16
    config.eval_batch_size = 8
    config.model.arch = "resnet20"
    config.model.width = 4
    config.data.name = "digits"
    config.optimizer.lr = 0.02
    config.log.seconds = 0.0
    config.log.tensorboard = False
    return config


def describe(config: Any, data: Dataset) -> ModelDescription:
    """The network of a config for some data."""
    return describe_model(config, data.class_names, data.mean, data.std)


def make_trainer(engine: Any, config: Any, data: Dataset, workdir: Path) -> Any:
    """A run of `engine` before its first step."""
    return engine.Trainer(describe_run(config, data, workdir), data)
