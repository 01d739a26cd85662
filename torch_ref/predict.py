"""Logits for any number of images, and networks loaded from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipe.architectures import ModelDescription
from recipe.normalisation import standardisation_table
from recipe.processes.world import ALONE, World
from recipe.system.errors import UserError
from recipe.training import checkpoints, weights
from recipe.training.description import Inference
from torch_ref.checkpoint import SUFFIX, Tree, not_finite, read
from torch_ref.model import ResNet
from torch_ref.processes import rows_of_all
from torch_ref.runtime import runtime, set_up
from torch_ref.steps import make_eval_step
from torch_ref.train_state import DTYPES, fit, make_model


def device_table(description: ModelDescription, precision: str, device: torch.device) -> Tensor:
    """The standardisation table (256, 3) in the dtype that parameters have."""
    table = standardisation_table(description.mean, description.std)
    return torch.from_numpy(table).to(device, DTYPES[precision][1])


def batched(
    eval_batch: Callable[[Tensor], Tensor], images: np.ndarray, batch_size: int, world: World = ALONE
) -> np.ndarray:
    """Evaluate images (N, H, W, 3) in batches; the last one may be smaller.

    Each process evaluates a part of the images, and gets the results of all.
    """
    parts = np.array_split(images, world.count)
    own = parts[world.index]
    batches = torch.from_numpy(own).split(batch_size) if len(own) else ()
    results = [eval_batch(batch) for batch in batches]
    if world.count == 1:
        return torch.cat(results).cpu().numpy()
    logits = torch.cat(results) if results else eval_batch(torch.from_numpy(images[:1]))[:0]
    return rows_of_all(logits, [len(part) for part in parts]).cpu().numpy()


def read_weights(path: Path) -> tuple[dict[str, Any], Tree]:
    """A weights file's record and its tensors; see recipe.training.weights."""
    record, arrays = weights.read(path)
    return record, {"model": {name: torch.from_numpy(array) for name, array in arrays.items()}}


class Predictor:
    """A network with fixed weights; see recipe.training.engine.LoadedPredictor."""

    def __init__(
        self,
        description: ModelDescription,
        model: ResNet,
        inference: Inference,
        *,
        device: torch.device,
        held_out: int = 0,
    ):
        self.precision = inference.precision
        self.runtime = runtime(device)
        self.held_out = held_out
        self._device = device
        self._batch_size = inference.batch_size
        self._table = device_table(description, self.precision, device)
        self._eval_step = make_eval_step(model, self.precision)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map N ≥ 1 uint8 images (N, H, W, 3) to logits (N, classes), float32 (of an f64 network float64)."""
        return batched(
            lambda batch: self._eval_step(batch.to(self._device), self._table), images, self._batch_size
        )


def load(path: str, inference: Inference = Inference()) -> tuple[ModelDescription, Predictor]:  # noqa: B008
    """Load a checkpoint; architecture, classes and normalisation come from it.

    Args:
      path: a checkpoint, or a workdir, whose best one is taken; or a file of weights, or a folder with one.
      inference: precision and batch size.

    Returns:
      what the network is, and the network. TF32 is off for the whole process from then on.

    Raises:
      UserError: if there is none, it is damaged, not finite, or of another form.
    """
    device = set_up()
    found = checkpoints.find_weights(path, SUFFIX)
    record, saved = read_weights(found) if found.suffix == checkpoints.WEIGHTS else read(found)
    description = checkpoints.described(record, found)
    inference = checkpoints.settled(inference, record)
    model = make_model(description, inference.precision, device)
    try:
        fit(saved["model"], model)
    except (KeyError, UserError) as error:
        raise UserError(f"{found}: {error}") from error
    checkpoints.require_finite(not_finite({"model": saved["model"]}), found)
    held_out = checkpoints.held_out(record)
    return description, Predictor(description, model, inference, device=device, held_out=held_out)
