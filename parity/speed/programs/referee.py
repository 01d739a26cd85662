"""What the first gradients and logits must be, and how far off they may be: the parity suite's rules."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from parity.budgets import reference as budget
from parity.engines import CPU, TorchNetwork
from parity.speed.jobs import Job
from parity.speed.programs.geometry import traffic
from parity.speed.programs.problem import Problem
from parity.speed.verdict import Verdict
from parity.tensors import to_numpy
from recipe.architectures import ModelDescription
from recipe.state_dict import Arrays
from torch_ref.augment import make_batch, standardise
from torch_ref.predict import device_table
from torch_ref.runtime import set_up
from torch_ref.steps import cross_entropy
from torch_ref.train_state import make_model, set_initial_params


def judge(job: Job) -> Verdict:
    """Run the reference, eager, in the job's precision and in float64, where the contenders compute.

    So its own errors are those of that device's kernels; and a CPU would take minutes for a GPU's batches.
    """
    device = set_up()
    torch.backends.cudnn.benchmark = True  # the algorithms, and with them the errors, that contenders have
    problem = Problem(job)
    description = problem.run.model
    model = make_model(description, "f64", CPU)
    set_initial_params(model, job.seed)
    arrays = {name: to_numpy(tensor) for name, tensor in model.state_dict().items()}
    side = functools.cache(lambda precision: TorchNetwork(description, arrays, precision, device))
    table = device_table(description, "f32", CPU)
    decay = problem.run.optimizer.weight_decay

    if job.measure == "eval":
        images = standardise(torch.from_numpy(problem.eval_images), table)

        def reference(images: np.ndarray, precision: str) -> Arrays:
            return {"logits": side(precision).logits(images)}

    else:
        data = problem.data
        tensors = {"image": torch.from_numpy(data.train_images), "label": torch.from_numpy(data.train_labels)}
        row = {name: torch.from_numpy(values).long() for name, values in problem.first_row.items()}
        batch = make_batch(tensors | {"table": table}, row, problem.run.augment)
        images, labels = batch["image"], batch["label"].long().numpy()

        def reference(images: np.ndarray, precision: str) -> Arrays:
            grads = side(precision).gradients(images, labels, problem.run.label_smoothing)
            return {name: grad + decay * arrays[name] for name, grad in grads.items()}

    given = images.double().numpy()
    expected = reference(given, job.precision)
    errors = budget.reference_errors(reference, given, job.precision)
    flops = count_flops(description, job.batch_size, training=job.measure != "eval")
    return Verdict(expected, budget.scaled(errors, job.precision), flops, traffic(job))


def count_flops(description: ModelDescription, batch_size: int, *, training: bool) -> int:
    """Floating-point operations of one step in convolutions and matrix products, without computing them.

    A multiplication and an addition are two. The images need no gradient.
    """
    model: nn.Module = make_model(description, "f32", torch.device("meta"))
    images = torch.empty(batch_size, 3, description.image_size, description.image_size, device="meta")
    labels = torch.zeros(batch_size, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        if training:
            loss: Any = cross_entropy(model.train()(images), labels)
            loss.backward()
        else:
            model.eval()(images)
    return counter.get_total_flops()
