"""`python -m parity verify`: do the Flax and the PyTorch network compute the same?"""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
import optax
import torch
from torch import nn

from flax_resnet.compilation_cache import keep_programs
from flax_resnet.cpu_kernels import choose
from parity.arrays import to_numpy
from parity.convert.files import read
from parity.mutants.run import ROOMS, ROOT
from parity.verify.case import Case
from parity.verify.levels import forward, gradients, structure, trajectory
from parity.verify.levels import input_pipeline as pipeline
from parity.verify.levels import optimizer_step as optimizer
from parity.verify.levels import predictions as evaluation
from parity.verify.report import text as report_text
from parity.verify.result import LEVELS, Check, Finding, Report
from recipe import data as datasets
from recipe.architectures import ARCHITECTURES, ModelDescription
from recipe.data import Dataset
from recipe.system.errors import UserError, choice
from recipe.training import checkpoints
from torch_ref.model import ResNet

CHEAP_FIRST = (1, 6, 5, 2, 3, 4, 8, 7, 9)  # a failure is often found within seconds
IMAGES = {True: 360, False: 10_000}  # at most, by `quick`


def verify(
    case: Case,
    data: Dataset | None,
    levels: Iterable[int],
    on_check: Callable[[Check], None],
    *,
    stop: bool = False,
) -> Report:
    """Run the checks of some levels.

    Args:
      case: the network, with weights.
      data: real images for level 8; None for random ones.
      levels: of parity.verify.result.LEVELS.
      on_check: called with every check when it is done.
      stop: whether to end at the first failure.
    """
    started = time.monotonic()
    checks: list[Check] = []
    for found in _checks(case, data, set(levels)):
        check = _without_kernels(found, case, data)
        checks.append(check)
        on_check(check)
        if stop and not check.passed:
            break
    checks.sort(key=lambda check: check.level)
    return Report(subject(case), environment(case), tuple(checks), time.monotonic() - started)


def _checks(case: Case, data: Dataset | None, levels: set[int]) -> Iterator[Check]:
    """All checks of some levels."""
    small = thin(case)
    makers: dict[int, Callable[[], Iterator[Check]]] = {
        1: lambda: structure.check(case),
        2: lambda: forward.check(case, training=False),
        3: lambda: forward.check(case, training=True),
        4: lambda: gradients.check(case),
        5: lambda: optimizer.check(case),
        6: lambda: pipeline.check(case),
        7: lambda: trajectory.check_free(small),
        8: lambda: evaluation.check(case, *test_images(case, data)),
        9: lambda: trajectory.check_switching(small),
    }
    for level in CHEAP_FIRST:
        if level not in levels:
            continue
        jax.config.update("jax_enable_x64", True)  # a trainer in float32 switches it off
        try:
            yield from makers[level]()
        except UserError:
            raise
        except Exception as error:  # a network that does not run is a finding, whatever it raises
            yield crashed(level, error)


def _without_kernels(check: Check, case: Case, data: Dataset | None) -> Check:
    """If native kernels ran and the check failed: try XLA's; if they pass, the native ones are the cause."""
    native = check.precision in ("f32", "bf16") and choose(case.cpu_kernels, check.precision)[0]
    if check.passed or not native:
        return check
    plain = _checks(dataclasses.replace(case, cpu_kernels="xla"), data, {check.level})
    again = next((c for c in plain if (c.name, c.precision) == (check.name, check.precision)), None)
    if again is None or not again.passed:
        return check
    words = (
        f"within its budget with XLA's kernels (--cpu-kernels=xla), not with the native ones: {check.cause}"
    )
    return dataclasses.replace(check, family="native kernels", cause=words.removesuffix(": "))


def crashed(level: int, error: Exception) -> Check:
    """The failed check of a level that could not be run, at the last line of this project's own code."""
    files = {str(path): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files]
    where = f"{files[frames[-1].filename].relative_to(ROOT)}:{frames[-1].lineno}"
    words = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
    finding = Finding(where, math.inf, 0.0)
    return Check(level, f"{LEVELS[level]} does not run", "exact", "crash", (finding,), "structure", words)


def run(case: Case, levels: Iterable[int], *, stop: bool = False) -> Report:
    """Verify on what data there is; progress on stderr, then the summary on stdout."""

    def progress(check: Check) -> None:
        state = "ok" if check.passed else "FAILED"
        print(f"{state:>6}  {check.level} {check.name}, {check.precision}", file=sys.stderr, flush=True)

    keep_programs()
    report = verify(case, real_data(case.description), levels, progress, stop=stop)
    print(report_text.render(report, report_text.use_colour(sys.stdout)))
    return report


def from_checkpoint(path: Path, layout: str | None, weights: str | None, **settings: Any) -> Case:
    """A case with the weights of a checkpoint, or of a workdir's best one, whatever project it comes from.

    `settings` are seed, quick and cpu_kernels of a `Case`.
    """
    checkpoint = read(checkpoints.find(str(path), ""), layout, weights)
    return Case(checkpoint.description, checkpoint.model, **settings)


def from_description(description: ModelDescription, *, seed: int, **settings: Any) -> Case:
    """A case with fresh random weights, and statistics, scales and biases away from 0 and 1.

    `settings` are quick and cpu_kernels of a `Case`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = disturb(ResNet(description), seed)
    return Case(description, {n: to_numpy(t) for n, t in model.state_dict().items()}, seed, **settings)


def disturb(model: nn.Module, seed: int) -> nn.Module:
    """Draw the batch norms' scales, biases and statistics, which a fresh network has at 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, std=0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def describe(arch: str, stem: str, width: int) -> ModelDescription:
    """A network for ten classes of 32×32 images."""
    choice("architecture", arch, ARCHITECTURES)
    return ModelDescription(
        arch=arch, stem=stem, width=width or ARCHITECTURES[arch].width,
        class_names=tuple(map(str, range(10))), mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26),
        image_size=32, dataset="random",
    )  # fmt: skip


def level_range(text: str) -> list[int]:
    """ "2" → [2], "1-6" → [1, …, 6]."""
    first, _, last = text.partition("-")
    try:
        levels = list(range(int(first), int(last or first) + 1))
    except ValueError:
        levels = []
    if not levels or not set(levels) <= LEVELS.keys():
        raise UserError(f"--levels takes a level or a range from 1 to {max(LEVELS)}, not {text!r}")
    return levels


def thin(case: Case) -> Case:
    """The case at the width and image size of trajectories, which start from the recipe's weights."""
    width = min(trajectory.WIDTH, case.description.width)
    description = dataclasses.replace(case.description, width=width, image_size=32)
    return dataclasses.replace(case, description=description, model={})


def test_images(case: Case, data: Dataset | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Images and labels for level 8: real ones if they fit the network."""
    count, size = IMAGES[case.quick], case.description.image_size
    if data is not None and size == data.test_images.shape[1]:
        known = data.test_labels < case.description.num_classes
        images, labels = data.test_images[known][:count], data.test_labels[known][:count]
        return images, labels, f"{len(images)} test images of {data.title}"
    rng = np.random.default_rng(case.seed)
    count = 50 if case.quick else 200
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    labels = rng.integers(0, case.description.num_classes, count).astype(np.int32)
    return images, labels, f"{count} random images of {size}×{size}"


def real_data(description: ModelDescription) -> Dataset:
    """CIFAR-10 or CIFAR-100 if it is prepared and the network is for it, else scikit-learn's digits."""
    if description.dataset in ("cifar10", "cifar100", "random"):
        name = "cifar100" if description.dataset == "cifar100" else "cifar10"
        try:
            return datasets.load(name, "", download=False)
        except UserError:
            pass
    return datasets.load("digits")


def subject(case: Case) -> str:
    """What is checked, in a phrase."""
    d = case.description
    return f"{d.arch}, {d.stem} stem, width {d.width}, {d.num_classes} classes; seed {case.seed}"


def environment(case: Case) -> dict[str, str]:
    """Versions, devices and what decides about precision."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "jax device": f"{jax.devices()[0].platform} ({jax.devices()[0].device_kind})",
        "kernels in f32 and bf16": choose(case.cpu_kernels, "f32")[1],
        "torch threads": str(torch.get_num_threads()),
        "jax_enable_x64": "True, but False in trainers of f32 and bf16",
        "jax_default_matmul_precision": str(jax.config.jax_default_matmul_precision),
        "convolution precision in Flax": "HIGHEST for f32 and f64",
        "TF32 in torch": f"cuDNN {torch.backends.cudnn.allow_tf32}, "
        f"matmul {torch.backends.cuda.matmul.allow_tf32}",
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }
